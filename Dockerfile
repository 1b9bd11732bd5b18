# The pinned environment of requirements.lock with mlmgen and its workflow, for Docker, Apptainer and Kubernetes:
#   docker build --tag mlmgen .
# profiles/README.md shows how to run it.
FROM python:3.11-slim-bookworm

# Snakemake asks for git when it starts, and keeps sources in a cache that any user may write here.
ENV GIT_PYTHON_REFRESH=quiet \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/tmp/cache

COPY requirements.lock /opt/mlmgen/
RUN python -m pip install --no-cache-dir --requirement /opt/mlmgen/requirements.lock

COPY pyproject.toml README.md LICENSE Snakefile /opt/mlmgen/
COPY config /opt/mlmgen/config
COPY mlmgen /opt/mlmgen/mlmgen
COPY profiles /opt/mlmgen/profiles
COPY workflow /opt/mlmgen/workflow
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation /opt/mlmgen

# Compiled kernels go to a private folder in /tmp, also for other users (docker run --user).
RUN useradd --create-home mlmgen && install --directory --owner mlmgen /data
USER mlmgen
WORKDIR /data
CMD ["mlmgen", "--help"]
