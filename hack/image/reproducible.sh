#!/bin/sh
# Builds the images of "make images" again, from a copy of the files in another folder, and fails if a byte differs.
# Usage: hack/image/reproducible.sh FOLDER MAKE-ARGUMENTS..., with the folder that "make images" has filled.
set -eu
cd "$(dirname "$0")/../.."
folder=$1
shift
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 tar cf - | tar xf - -C "$copy"
make -s -C "$copy" images "$@"
for image in "$folder"/*.tar; do
	cmp "$image" "$copy/dist/images/$(basename "$image")"
	echo "$(basename "$image"): the same, built twice"
done
