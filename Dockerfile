# facenet-parity on a CPU: facenet, convert, and Jupyter for the notebooks of examples/. docs/docker.md
# says how to build and run it.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
# What to install, and the address of an index that has PyTorch without CUDA, which saves gigabytes;
# without one, PyTorch comes from where pip looks for everything else.
ARG EXTRAS=notebooks,onnx,parity,plot,release,video
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/facenet
ENV PATH=/opt/facenet/bin:$PATH
WORKDIR /src
COPY constraints.txt .
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-cache-dir --no-deps --constraint constraints.txt \
            --index-url "$TORCH_INDEX" torch; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY converter converter
COPY facenet_common facenet_common
COPY facenet_models facenet_models
COPY facenet_release facenet_release
COPY parity_tests parity_tests
RUN pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim-bookworm
# Whoever runs it, `--user` included, needs a home to write to: Jupyter's state, downloaded weights.
RUN useradd --uid 1000 --no-create-home facenet \
    && install --directory --mode=1777 /home/facenet /work
COPY --from=build /opt/facenet /opt/facenet
ENV HOME=/home/facenet \
    PATH=/opt/facenet/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /work
USER 1000
CMD ["facenet", "--help"]
