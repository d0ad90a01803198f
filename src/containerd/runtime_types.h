// The typed values that travel inside of google.protobuf.Any. Inside this folder only.
#pragma once

#include <string>

#include "containerd/client.h"
#include "github.com/containerd/containerd/runtime/v2/runc/options/oci.pb.h"
#include "google/protobuf/any.pb.h"

namespace vibe::containerd {

inline constexpr char kRuntime[] = "io.containerd.runc.v2";
inline constexpr char kSpecType[] = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
inline constexpr char kProcessType[] = "types.containerd.io/opencontainers/runtime-spec/1/Process";

// containerd registers its types under their bare name, without the "type.googleapis.com/" that
// Any::PackFrom would write.
inline void SetRuntimeOptions(const std::string& binary, google::protobuf::Any* any) {
  ::containerd::runc::v1::Options options;
  options.set_binary_name(binary);
  any->set_type_url("containerd.runc.v1.Options");
  any->set_value(options.SerializeAsString());
}

}  // namespace vibe::containerd
