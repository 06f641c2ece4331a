# `glc` in a container, on processors alone or with CUDA:
#   docker build -t glc .                          docker run --rm -v "$PWD:/data" glc compress photo.png photo.glc
#   docker build -t glc --build-arg DEVICE=cuda .  docker run --rm --gpus all -v "$PWD:/data" glc ...
# With the extras that `glc plot` and others need: --build-arg EXTRAS='[eval]'.
ARG DEVICE=cpu
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS cpu
COPY requirements.lock /src/
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
    --constraint /src/requirements.lock torch torchvision

FROM python:${PYTHON}-slim AS cuda
COPY requirements.lock /src/
RUN pip install --no-cache-dir --constraint /src/requirements.lock torch torchvision
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM ${DEVICE}
ARG EXTRAS=""
COPY pyproject.toml README.md LICENSE MANIFEST.in /src/
COPY glc_train /src/glc_train
RUN pip install --no-cache-dir "/src${EXTRAS}" && useradd --create-home --uid 1000 glc
USER 1000
WORKDIR /data
ENTRYPOINT ["glc"]
CMD ["--help"]
