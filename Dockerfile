# slim_fast on a CUDA GPU (with NVIDIA's container toolkit on the host):
#   docker build -t slim_fast .
#   docker run --gpus all --rm -v "$PWD/runs:/runs" slim_fast pretrain --out /runs/demo
FROM python:3.12-slim

# Triton compiles a launcher for its kernels with gcc, stream draws .mp4 with ffmpeg; CUDA's
# libraries come with torch, the driver with the host.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev ffmpeg \
    && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The dependencies are a layer of their own, which stays while the code changes.
COPY pyproject.toml README.md LICENSE /src/
COPY slim_fast/__init__.py /src/slim_fast/
COPY kernels/slim_kernels/__init__.py /src/kernels/slim_kernels/
RUN pip install --no-cache-dir "/src[onnx,hub]" && pip uninstall --yes slim_fast

COPY slim_fast /src/slim_fast
COPY kernels /src/kernels
RUN pip install --no-cache-dir --no-deps /src && rm -r /src

WORKDIR /runs
ENTRYPOINT ["slim-fast"]
CMD ["--help"]
