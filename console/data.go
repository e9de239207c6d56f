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

package console

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/postback-dev/postback-operator/api/v1alpha1"
	"github.com/postback-dev/postback-operator/console/feed"
)

// Data is the data of the pages. Several consoles may share it, if the user of each may list all of it.
type Data struct {
	feed  *feed.Feed
	views *views
}

// NewData returns the data of a namespace, or of all if there is none in the options. It is empty before Run runs.
func NewData(o Options) (*Data, error) {
	c, err := newClient(o.Config)
	if err != nil {
		return nil, err
	}
	data := &Data{feed: feed.New(c, o.Namespace, o.DeliveryLog), views: newViews()}
	// A page that another replica or an earlier process served then loads anew. Browsers count to 2^53.
	data.feed.StartAt(uint64(time.Now().UnixMicro()))
	return data, nil
}

// Run keeps the data current until ctx ends. It may be called once.
func (d *Data) Run(ctx context.Context) { d.feed.Run(ctx) }

// kinds returns the scheme and the mapper of the kinds that the console uses. All clients share them, so that a client
// takes little memory and discovers nothing.
var kinds = sync.OnceValues(func() (*runtime.Scheme, meta.RESTMapper) {
	scheme := runtime.NewScheme()
	utilruntime.Must(errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)))
	mapper := meta.NewDefaultRESTMapper(nil)
	for plural, kind := range map[string]string{
		"postbacks": "Postback", "postbacksecrets": "PostbackSecret", "postbackdeliveries": "PostbackDelivery", "postbackstatistics": "PostbackStatistics",
	} {
		resource := v1alpha1.GroupVersion.WithResource(plural)
		mapper.AddSpecific(v1alpha1.GroupVersion.WithKind(kind), resource, resource, meta.RESTScopeNamespace)
	}
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	return scheme, mapper
})

func newClient(of *rest.Config) (client.WithWatch, error) {
	scheme, mapper := kinds()
	c, err := client.NewWithWatch(of, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return c, nil
}
