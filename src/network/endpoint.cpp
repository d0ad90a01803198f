#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "network/cni.h"
#include "network/interfaces.h"
#include "network/net_namespace.h"
#include "network/network.h"

namespace vibe::network {
namespace {

absl::Status Check(const Endpoint& endpoint) {
  const bool name_ok = !endpoint.name.empty() && endpoint.name.size() <= 63 &&
                       absl::c_all_of(endpoint.name, [](char c) {
                         return absl::ascii_islower(static_cast<unsigned char>(c)) ||
                                absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '-';
                       });
  if (!name_ok || endpoint.project_index < 0 || endpoint.project_index >= kMaxProjects ||
      endpoint.service_index < 0 || endpoint.service_index >= kMaxServices) {
    return absl::InvalidArgumentError(absl::StrCat("no such endpoint: \"", endpoint.name, "\" of ",
                                                   endpoint.project_index, ", service ",
                                                   endpoint.service_index));
  }
  return absl::OkStatus();
}

bool HasPlannedAddress(const std::filesystem::path& netns, const Endpoint& endpoint) {
  absl::StatusOr<std::string> address;
  const absl::Status entered = RunInNetNamespace(netns, [&] {
    address = Ipv4AddressOf("eth0");
    return absl::OkStatus();
  });
  return entered.ok() && address.ok() &&
         *address == endpoint.pool.Ipv4Of(endpoint.project_index, endpoint.service_index);
}

absl::Status PrepareNamespace() {
  VIBE_RETURN_IF_ERROR(TrustPlannedAddresses());
  return BringLoopbackUp();
}

}  // namespace

absl::StatusOr<std::string> AddEndpoint(const NetworkPaths& paths, const Endpoint& endpoint,
                                        const std::function<void()>& on_namespace) {
  VIBE_RETURN_IF_ERROR(Check(endpoint));
  const std::filesystem::path netns = paths.namespaces / endpoint.name;
  bool bridge_is_new = false;
  {
    // Services of one project start at the same time: one of them makes the bridge.
    VIBE_ASSIGN_OR_RETURN(const UniqueFd lock, LockNamespaces(paths.namespaces));
    VIBE_ASSIGN_OR_RETURN(bridge_is_new,
                          MakeBridge(endpoint.pool.SubnetOf(endpoint.project_index)));
  }
  if (!bridge_is_new && IsNetNamespace(netns) && HasPlannedAddress(netns, endpoint)) {
    if (on_namespace) {
      on_namespace();
    }
    return netns.string();
  }
  VIBE_RETURN_IF_ERROR(RemoveEndpoint(paths, endpoint));  // what a crash left half done
  VIBE_RETURN_IF_ERROR(MakeNetNamespace(netns, PrepareNamespace));
  if (on_namespace) {
    on_namespace();
  }
  if (absl::Status status = RunCniBridge(paths, CniCommand::kAdd, endpoint, netns.string());
      !status.ok()) {
    RemoveEndpoint(paths, endpoint).IgnoreError();
    return status;
  }
  return netns.string();
}

absl::Status RemoveEndpoint(const NetworkPaths& paths, const Endpoint& endpoint) {
  VIBE_RETURN_IF_ERROR(Check(endpoint));
  const std::filesystem::path netns = paths.namespaces / endpoint.name;
  absl::Status status;
  if (IsNetNamespace(netns)) {
    status = RunCniBridge(paths, CniCommand::kDelete, endpoint, netns.string());
  }
  // Also when the plugin failed: the interface goes with its namespace.
  status.Update(RemoveNetNamespace(netns));
  return status;
}

absl::Status RemoveBridge(int project_index) {
  if (project_index < 0 || project_index >= kMaxProjects) {
    return absl::InvalidArgumentError(absl::StrCat("no such project: ", project_index));
  }
  return DeleteBridge(AddressPool().SubnetOf(project_index).bridge);
}

}  // namespace vibe::network
