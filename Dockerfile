# One image for each program:
#   docker build --build-arg PROGRAM=mcp-authserver -t ghcr.io/mcpauth/authserver:dev CONTEXT
# CONTEXT holds the program, built by cargo for the base image's C library and stripped.
# No BuildKit-only syntax: the classic builder must do.
ARG BASE_IMAGE=docker.io/library/debian:12-slim
ARG PROGRAM

# ENTRYPOINT knows no variables, FROM does.
FROM ${BASE_IMAGE} AS mcp-auth-operator
ENTRYPOINT ["/usr/local/bin/mcp-auth-operator"]

FROM ${BASE_IMAGE} AS mcp-authserver
ENTRYPOINT ["/usr/local/bin/mcp-authserver"]

FROM ${BASE_IMAGE} AS mcp-resource-proxy
ENTRYPOINT ["/usr/local/bin/mcp-resource-proxy"]

FROM ${BASE_IMAGE} AS kubectl-mcpauth
ENTRYPOINT ["/usr/local/bin/kubectl-mcpauth"]

FROM ${BASE_IMAGE} AS notes-mcp-server
ENTRYPOINT ["/usr/local/bin/notes-mcp-server"]

FROM ${PROGRAM}
ARG PROGRAM
LABEL org.opencontainers.image.title=${PROGRAM} \
      org.opencontainers.image.licenses=Apache-2.0
COPY ${PROGRAM} /usr/local/bin/
# A number, so that the kubelet can tell that it is not root.
USER 65532:65532
