#!/usr/bin/env bash
# node-image.sh BASE IMAGE: puts a kind node image together in the engine. Called by images.sh.
source "$(dirname "$0")/lib.sh"
base=$1 image=$2

folder() { find "$cache/parts" -maxdepth 1 -name "$1-$(key "$here/go/$1/go.mod" "$here/go/$1/go.sum")"; }
kubernetes=$(folder kubernetes) node=$(folder node) etcd=$(folder etcd) local_path=$(folder local-path)
version=$("$kubernetes/kubeadm" version -o short)

context=$cache/run/node-image
rm -rf "$context" "$context.images"
mkdir -p "$context"/usr/{bin,local/bin} "$context.images"
trap 'rm -rf "$context" "$context.images"' EXIT

# One archive of the images that a node runs itself; a node without the internet cannot pull them.
archive=()
program_image() { # NAME FROM ENTRYPOINT FILE=PROGRAM...: copied to /usr/local/bin of image FROM
    local name=$1 from=$2 entrypoint=$3 dir=$context.images/image file
    shift 3
    rm -rf "$dir"
    mkdir -p "$dir"
    for file in "$@"; do cp "${file%%=*}" "$dir/${file##*=}"; done
    printf 'FROM %s\nENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nCOPY . /usr/local/bin/\nENTRYPOINT %s\n' \
        "$from" "$entrypoint" >"$context.images/Dockerfile"
    quiet docker build -q -f "$context.images/Dockerfile" -t "$name" "$dir"
    archive+=("$name")
}
name_of() { "$kubernetes/kubeadm" config images list --kubernetes-version "$version" | grep "/$1:"; }
for program in kube-apiserver kube-controller-manager kube-scheduler; do
    program_image "$(name_of $program)" scratch "[\"$program\"]" "$kubernetes/$program=$program"
done
program_image "$(name_of kube-proxy)" "$base" '["kube-proxy"]' "$kubernetes/kube-proxy=kube-proxy" # needs nft
program_image "$(name_of etcd)" scratch '["etcd"]' "$etcd/server=etcd"
program_image "$(name_of coredns)" scratch '["coredns"]' "$node/coredns=coredns"
kind=$(cd "$here/go/node" && go list -m -f '{{.Dir}}' sigs.k8s.io/kind)
pause=$(sed -n 's/.*sandbox_image = "\(.*\)"/\1/p' "$kind/images/base/files/etc/containerd/config.toml")
need_packages catatonit
program_image "$pause" scratch '["catatonit", "-P"]' "$(command -v catatonit)=catatonit"
program_image mcpauth.local/local-path-provisioner:1 scratch '["local-path-provisioner"]' "$local_path/local-path-provisioner=local-path-provisioner"
helper=$("$here/images.sh" base)
program_image mcpauth.local/local-path-helper:1 "$helper" '["/bin/sh"]'

cp -r "$kind/images/base/files/." "$context/" # kind's own: entrypoint, containerd's configuration, units
chmod -R u+w "$context"                       # the module cache is read-only
cp -r "$here/node/files/." "$context/"
cp "$here/node/Dockerfile" "$context/"
cp "$kubernetes"/{kubeadm,kubelet,kubectl} "$context/usr/bin/"
cp "$node"/{containerd,containerd-shim-runc-v2,ctr} "$context/usr/local/bin/"
printf '%s' "$version" >"$context/kind/version"
docker save "${archive[@]}" -o "$context/kind/images.tar"
say "building $image"
quiet docker build -q --build-arg BASE_IMAGE="$base" -t "$image" "$context"
