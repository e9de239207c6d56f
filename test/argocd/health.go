/*
Copyright 2026 The Postback Authors.

Licensed under the Apache License, Version 2.0 (the "License");
you may not use this file except in compliance with the License.
You may obtain a copy of the License at

    http://www.apache.org/licenses/LICENSE-2.0

Unless required by applicable law or agreed to in writing, software
distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and
limitations under the License.
*/

// Package argocd runs the health scripts as Argo CD does (argo-cd, util/lua/lua.go). The object is the global obj,
// and a script has the libraries package, base, table and a safe os, but no string library.
package argocd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/postback-dev/postback-operator/test/controlplane"
)

// These are health statuses of Argo CD.
const (
	Healthy     = "Healthy"
	Progressing = "Progressing"
	Degraded    = "Degraded"
	Suspended   = "Suspended"
)

// Health is the result of a script.
type Health struct {
	Status, Message string
}

// Of runs the script of a kind from config/argocd on an object, in the JSON types that Argo CD gives it.
func Of(kind string, object runtime.Object) (Health, error) {
	root, err := controlplane.ModuleRoot()
	if err != nil {
		return Health{}, err
	}
	script, err := os.ReadFile(filepath.Join(root, "config", "argocd", strings.ToLower(kind)+".lua"))
	if err != nil {
		return Health{}, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return Health{}, fmt.Errorf("convert the object: %w", err)
	}
	health, err := run(string(script), content)
	if err != nil {
		return Health{}, fmt.Errorf("health script of %s: %w", kind, err)
	}
	return health, nil
}

func run(script string, object map[string]any) (Health, error) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}, {lua.OsLibName, openSafeOs}} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			return Health{}, fmt.Errorf("open the library %s: %w", library.name, err)
		}
	}
	l.SetGlobal("obj", toLua(l, object))
	if err := l.DoString(script); err != nil {
		return Health{}, err
	}
	answer, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		return Health{}, errors.New("it returns no table")
	}
	health := Health{Status: text(answer, "status"), Message: text(answer, "message")}
	if health.Status == "" || health.Message == "" {
		return health, fmt.Errorf("it returns the status %q and the message %q", health.Status, health.Message)
	}
	return health, nil
}

// openSafeOs opens the library os with only the two functions that Argo CD permits.
func openSafeOs(l *lua.LState) int {
	lua.OpenOs(l)
	full, safe := l.CheckTable(-1), l.NewTable()
	for _, name := range []string{"time", "date"} {
		safe.RawSetString(name, full.RawGetString(name))
	}
	l.SetGlobal(lua.OsLibName, safe)
	l.SetField(l.GetField(l.Get(lua.RegistryIndex), "_LOADED"), lua.OsLibName, safe)
	l.Push(safe)
	return 1
}

func text(t *lua.LTable, key string) string {
	s, ok := t.RawGetString(key).(lua.LString)
	if !ok {
		return ""
	}
	return string(s)
}

// toLua converts a JSON value.
func toLua(l *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case map[string]any:
		t := l.NewTable()
		for key, field := range v {
			t.RawSetString(key, toLua(l, field))
		}
		return t
	case []any:
		t := l.NewTable()
		for _, item := range v {
			t.Append(toLua(l, item))
		}
		return t
	case string:
		return lua.LString(v)
	case bool:
		return lua.LBool(v)
	case int64:
		return lua.LNumber(v)
	case float64:
		return lua.LNumber(v)
	}
	return lua.LNil
}
