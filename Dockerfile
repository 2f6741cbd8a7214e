# The locked environment with the package in it.
#
#   docker build --tag internal-kd .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/project" internal-kd internal-kd run --cores 8
#   docker run --rm --gpus all --volume "$PWD:/project" internal-kd internal-kd run --cores 8 --resources gpu=2
#
# A smaller image without CUDA:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu --tag internal-kd .
#
# /project is where a clone is mounted: its Snakefile and params.yaml count, and its data/, results/ and work/ are written.
# /opt/internal-kd is the copy in the image, for a volume that is still empty (profiles/kubernetes/job.yaml).
FROM python:3.11-slim-bookworm

# git: runs record the commit; make, procps: for people. Their versions are those of the base image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make procps \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

# As `make env` does: torch first and alone, then everything else at the locked versions and hashes.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://pypi.org/simple
WORKDIR /opt/internal-kd
COPY requirements.lock ./
# hadolint ignore=DL3013
RUN python -m venv /opt/venv \
    && pip install --extra-index-url "$TORCH_INDEX" "$TORCH" \
    && pip install --no-deps --require-hashes -r requirements.lock

COPY . .
RUN pip install --no-deps --no-build-isolation --editable . \
    && pip check \
    && git config --system --add safe.directory /project

WORKDIR /project
CMD ["internal-kd", "--help"]
