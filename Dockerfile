# One image for a single machine, for nodes started with `ray start`, and for Ray on Kubernetes.
#   docker build -t edc-ray --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" .
#   docker run --rm -v "$PWD/runs:/home/ray/runs" edc-ray run digits
# With NVIDIA GPUs add `--gpus all`: the CUDA libraries come with torch, the driver with the host.
FROM python:3.11-slim

# Object stores to install for, such as EXTRAS=s3,gcs. Only those of requirements.lock are pinned.
ARG EXTRAS=s3

# g++ compiles the statistics kernels on first use. The health probes of Ray on Kubernetes call wget. Ray looks at
# processes with procps.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ procps wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/edc-ray
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY edc_ray ./edc_ray
RUN pip install --no-cache-dir --constraint requirements.lock ".[${EXTRAS}]"
COPY jobs ./jobs

RUN useradd --create-home ray
USER ray
WORKDIR /home/ray
# Recorded in every result, because the image has no .git.
ARG COMMIT=
ENV EDC_RAY_COMMIT=$COMMIT
ENTRYPOINT ["edc-ray"]
CMD ["--help"]
