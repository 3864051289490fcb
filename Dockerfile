# Two targets: `api` is small and never has torch; `worker` has the model and everything heavy.
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1
WORKDIR /app
# A volume takes its owner from the folder that it covers.
RUN useradd --create-home --uid 10001 lookalike && install -d -o lookalike -g lookalike /home/lookalike/files
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY shared shared
COPY api api
COPY workers workers
COPY cli cli

FROM base AS api
# The lock is a constraint here: the same versions, without what only workers need.
RUN pip install --constraint requirements.lock .
USER lookalike
EXPOSE 8080
CMD ["python", "-m", "gunicorn", "--config", "python:api.server", "--workers", "2", "--bind", "0.0.0.0:8080", "api.app:create_app()"]

FROM base AS worker
RUN pip install --constraint requirements.lock ".[worker]"
RUN install -d -o lookalike -g lookalike /home/lookalike/models
USER lookalike
# Model files are kept between starts when a volume is mounted here.
ENV HF_HOME=/home/lookalike/models
CMD ["python", "-m", "celery", "-A", "workers.app", "worker", "-P", "threads", "-c", "4", "-Q", "ingest", "-n", "ingest@%h", "--without-gossip", "--without-mingle"]
