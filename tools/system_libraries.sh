#!/bin/sh
# Open3D's wheel needs a few system libraries that small machines lack. Installs them where that is possible, says what to do elsewhere.
# usage: tools/system_libraries.sh PYTHON
set -eu
python=${1:-python3}
packages="libusb-1.0-0 libgl1 libgomp1 libx11-6"

if "$python" -c "import open3d" 2>/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing the system libraries of Open3D: $packages"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi
if ! "$python" -c "import open3d"; then
    echo "Open3D does not load. On Debian or Ubuntu: sudo apt-get install $packages" >&2
    exit 1
fi
