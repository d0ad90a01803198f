# Writes OCI image layouts (image-spec 1.0). Sourced by build, which sets $architecture and $SOURCE_DATE_EPOCH.
# shellcheck shell=bash disable=SC2154

# put_blob LAYOUT FILE: moves the file among the blobs; prints its digest.
put_blob() {
  local digest
  digest=$(sha256sum "$2" | cut -d' ' -f1)
  chmod 644 "$2"
  mv "$2" "$1/blobs/sha256/$digest"
  echo "sha256:$digest"
}

# write_layout FOLDER NAME CONFIG: an image of one layer, whose tar is read from stdin. CONFIG is the JSON object of
# what containers get (Env, Cmd, …).
write_layout() {
  local folder=$1 name=$2 config=$3
  local diff_id created layer config_digest manifest
  mkdir -p "$folder/blobs/sha256"
  # gzip, since every containerd reads it; level 6, since 9 takes four times as long for one percent less.
  cat >"$folder/tar"
  diff_id=sha256:$(sha256sum "$folder/tar" | cut -d' ' -f1)
  gzip -n -6 <"$folder/tar" >"$folder/layer"
  rm "$folder/tar"
  layer=$(describe "$folder/layer" application/vnd.oci.image.layer.v1.tar+gzip)
  put_blob "$folder" "$folder/layer" >/dev/null

  created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  jq -cn --arg created "$created" --arg architecture "$architecture" --argjson config "$config" --arg diff_id "$diff_id" \
    '{created: $created, architecture: $architecture, os: "linux", config: $config,
      rootfs: {type: "layers", diff_ids: [$diff_id]}}' >"$folder/config"
  config_digest=$(describe "$folder/config" application/vnd.oci.image.config.v1+json)
  put_blob "$folder" "$folder/config" >/dev/null

  jq -cn --argjson config "$config_digest" --argjson layer "$layer" \
    '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' \
    >"$folder/manifest"
  manifest=$(describe "$folder/manifest" application/vnd.oci.image.manifest.v1+json)
  put_blob "$folder" "$folder/manifest" >/dev/null

  jq -cn --argjson manifest "$manifest" --arg architecture "$architecture" --arg name "$name" \
    '{schemaVersion: 2, manifests: [$manifest + {
        platform: {os: "linux", architecture: $architecture},
        annotations: {"org.opencontainers.image.ref.name": $name}}]}' >"$folder/index.json"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$folder/oci-layout"
}

# describe FILE TYPE: the descriptor of a blob.
describe() {
  jq -cn --arg type "$2" --arg digest "sha256:$(sha256sum "$1" | cut -d' ' -f1)" --argjson size "$(stat -c %s "$1")" \
    '{mediaType: $type, digest: $digest, size: $size}'
}
