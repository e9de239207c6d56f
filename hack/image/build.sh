#!/bin/sh
# Builds programs for Linux and puts each into an image: an OCI archive FOLDER/NAME.tar for all the architectures. The
# same source, version and SOURCE_DATE_EPOCH give the same bytes.
# Usage: hack/image/build.sh -o FOLDER [-C MODULE] [-a "amd64 arm64"] [-r REGISTRY] [-v VERSION] [-l LDFLAGS] NAME=PACKAGE...
set -eu
usage() {
	sed -n 's/^# Usage: //p' "$0" >&2
	exit 2
}
folder='' module=. architectures="amd64 arm64" registry='' version=latest ldflags='-s -w'
while getopts o:C:a:r:v:l: flag; do
	case $flag in
	o) folder=$OPTARG ;;
	C) module=$OPTARG ;;
	a) architectures=$OPTARG ;;
	r) registry=$OPTARG ;;
	v) version=$OPTARG ;;
	l) ldflags=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ -n "$folder" ] && [ $# -gt 0 ] || usage

mkdir -p "$folder/programs"
folder=$(cd "$folder" && pwd)
module=$(cd "$module" && pwd)
cd "$(dirname "$0")"
go build -o "$folder/programs/image" .
for image; do
	name=${image%%=*}
	program=$(basename "${image#*=}")
	set --
	for architecture in $architectures; do
		out=$folder/programs/linux-$architecture/$program
		# Without a VCS stamp, a build from a source archive gives the same bytes as one from a clone.
		(cd "$module" && CGO_ENABLED=0 GOOS=linux GOARCH="$architecture" \
			go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$out" "${image#*=}")
		set -- "$@" "linux/$architecture=$out"
	done
	"$folder/programs/image" -name "${registry:+$registry/}$name:$version" -version "$version" -o "$folder/$name.tar" "$@"
done
