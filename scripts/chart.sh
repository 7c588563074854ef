#!/usr/bin/env bash
# chart.sh: renders the chart with each set of values in charts/mcp-auth-operator/ci, and checks the result with
# kubernetes-validate (the schemas of Kubernetes), promql (the expressions of alerts and dashboard), checkov (good practice).
source "$(dirname "$0")/../e2e/cluster/lib.sh"
cd "$top"
chart=charts/mcp-auth-operator
python=$cache/chart-tools/bin/python
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

for values in "$chart"/ci/*-values.yaml; do
    name=$(basename "$values" -values.yaml)
    helm template mcp-auth-operator "$chart" --namespace mcp-auth-system --values "$values" >"$rendered/$name.yaml"
done

# The oldest version that the chart supports, and the newest one that the tool knows.
for version in 1.33 1.37; do
    # It does not know the kinds of the Prometheus Operator.
    quiet "$python" -m kubernetes_validate --kubernetes-version "$version" --strict --quiet --no-warn "$rendered"/*.yaml || die "the rendered chart is not valid for Kubernetes $version: correct the fields named above"
done
quiet "$python" scripts/promql.py "$rendered/everything.yaml" docs/operations/monitoring.md || die "an alert, the dashboard or monitoring.md has invalid PromQL: correct the expressions named above"
# platform-values.yaml leaves the security contexts, which checkov requires, to the platform.
rm "$rendered/platform.yaml"
for file in "$rendered"/*.yaml; do
    # Built-in rules only: no network access.
    quiet env BC_SKIP_MAPPING=TRUE LOG_LEVEL=ERROR "$python" -m checkov.main --config-file scripts/checkov.yaml --file "$file" ||
        die "checkov found problems: fix them, or add an exception with its reason to scripts/checkov.yaml"
done
echo 'chart: valid for Kubernetes, PromQL and checkov'
