# The runtime alone: no compiler, no PyTorch, nobody's root. A model folder is a volume:
#
#   docker build -t gpt2onnx .
#   docker run --rm -v "$PWD/gpt2-int8:/model:ro" gpt2onnx generate "Once upon a time" --model /model
#   docker run --init --rm -p 127.0.0.1:8000:8000 -v "$PWD/gpt2-int8:/model:ro" gpt2onnx serve /model --host 0.0.0.0
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE requirements-tested.txt ./
COPY gpt2onnx gpt2onnx
RUN python -m venv /opt/gpt2onnx \
    && PIP_CONSTRAINT=/source/requirements-tested.txt /opt/gpt2onnx/bin/pip install --no-cache-dir --quiet ".[cpu,structured,server]"

FROM python:3.12-slim
COPY --from=build /opt/gpt2onnx /opt/gpt2onnx
RUN useradd --create-home --uid 10001 gpt2onnx
USER gpt2onnx
# What is kept to start sooner; a volume there keeps it from one container to the next. A new volume
# takes its owner from the folder that it covers.
ENV PATH=/opt/gpt2onnx/bin:$PATH GPT2ONNX_CACHE=/home/gpt2onnx/.cache/gpt2onnx
RUN mkdir -p "$GPT2ONNX_CACHE"
ENTRYPOINT ["gpt2onnx"]
CMD ["--help"]
