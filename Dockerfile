# The command `heal` in a container.
#
#   docker build -t heal .                            on a CPU
#   docker build -t heal --build-arg DEVICE=cuda .    on an NVIDIA GPU: PyPI's torch, which brings its CUDA libraries along
#
#   docker run --rm --shm-size 2g -v "$PWD/runs:/work/runs" heal                    the demo; pictures in runs/demo
#   docker run --rm --shm-size 2g -v "$PWD/runs:/work/runs" heal heal info configs/demo/alliance
FROM python:3.12-slim

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# torch first: it is by far the largest layer, and the sources below do not change it. torchvision, which timm needs, has to be built
# for the same device.
RUN case "$DEVICE" in \
        cpu) pip install "torch>=2.3" torchvision --index-url https://download.pytorch.org/whl/cpu ;; \
        cuda) pip install "torch>=2.3" torchvision ;; \
        *) echo "DEVICE=$DEVICE: expected cpu or cuda" >&2; exit 1 ;; \
    esac

COPY . /source
RUN pip install "/source[onnx,imagenet]" && /source/tools/system_libraries.sh python && rm -rf /var/lib/apt/lists/*

# The commands of the documentation name configs/demo/alliance.
WORKDIR /work
COPY configs configs
CMD ["heal", "demo"]
