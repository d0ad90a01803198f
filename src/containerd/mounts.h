// Mounts as containerd's messages and as ours. Inside this folder only.
#pragma once

#include <vector>

#include "containerd/client.h"
#include "github.com/containerd/containerd/api/types/mount.pb.h"

namespace vibe::containerd {

template <typename Field>  // google::protobuf::RepeatedPtrField<containerd.types.Mount>
std::vector<Mount> FromProto(const Field& mounts) {
  std::vector<Mount> result;
  for (const auto& mount : mounts) {
    result.push_back({.type = mount.type(),
                      .source = mount.source(),
                      .target = mount.target(),
                      .options = {mount.options().begin(), mount.options().end()}});
  }
  return result;
}

template <typename Field>
void ToProto(const std::vector<Mount>& mounts, Field* field) {
  for (const Mount& mount : mounts) {
    auto* entry = field->Add();
    entry->set_type(mount.type);
    entry->set_source(mount.source);
    entry->set_target(mount.target);
    entry->mutable_options()->Add(mount.options.begin(), mount.options.end());
  }
}

}  // namespace vibe::containerd
