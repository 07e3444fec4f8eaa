#!/bin/sh
# Fill data/sources/folder with the Oxygen icons (LGPL-3+) of Debian: nine classes of color images, class/name-size.png.
# Needs Debian or Ubuntu. Run it in the top folder of the project: sh docs/oxygen-icons.sh
set -eu
target=$PWD/data/sources/folder
if [ -e "$target" ]; then
  echo "error: $target exists already" >&2
  echo "hint: mv '$target' '$target-old'   # then repeat the command" >&2
  exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
apt-get -qq download oxygen-icon-theme 2>/dev/null || apt-get download oxygen-icon-theme
dpkg-deb --extract oxygen-icon-theme_*.deb .
for class in actions apps categories devices emblems emotes mimetypes places status; do
  mkdir -p "icons/$class"
  for size in 16 22 32 48 64 128 256; do
    for file in "usr/share/icons/oxygen/base/${size}x$size/$class"/*.png; do
      name=${file##*/}
      # symbolic links are other names of the same image
      [ ! -f "$file" ] || [ -h "$file" ] || ln "$file" "icons/$class/${name%.png}-$size.png"
    done
  done
done
mv icons "$target"
echo "$(find "$target" -type f | wc -l) images in $target"
