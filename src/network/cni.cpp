#include "network/cni.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/subprocess.h"

namespace vibe::network {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxMessage = 500;

std::string Address4(const Endpoint& endpoint) {
  return absl::StrCat(endpoint.pool.Ipv4Of(endpoint.project_index, endpoint.service_index), "/",
                      Subnet().prefix4);
}

std::string Address6(const Endpoint& endpoint) {
  return absl::StrCat(AddressPool::Ipv6Of(endpoint.project_index, endpoint.service_index), "/",
                      Subnet().prefix6);
}

}  // namespace

std::string CniConfig(const Endpoint& endpoint) {
  const Subnet subnet = endpoint.pool.SubnetOf(endpoint.project_index);
  const Json ipam = {
      {"type", "static"},
      {"addresses",
       Json::array({{{"address", Address4(endpoint)}, {"gateway", subnet.ipv4_gateway}},
                    {{"address", Address6(endpoint)}, {"gateway", subnet.ipv6_gateway}}})},
      {"routes", Json::array({{{"dst", "0.0.0.0/0"}}, {{"dst", "::/0"}}})}};
  const std::string mac =
      endpoint.pool.HardwareAddressOf(endpoint.project_index, endpoint.service_index);
  const Json config = {{"cniVersion", "1.0.0"}, {"name", subnet.bridge},
                       {"type", "bridge"},      {"bridge", subnet.bridge},
                       {"isGateway", true},     {"ipMasq", false},
                       {"hairpinMode", false},  {"runtimeConfig", {{"mac", mac}}},
                       {"ipam", ipam}};
  return config.dump();
}

std::string CniErrorMessage(absl::string_view json) {
  const Json error = Json::parse(json.begin(), json.end(), nullptr, false);
  if (!error.is_object() || !error.contains("msg") || !error["msg"].is_string()) {
    return std::string(absl::StripAsciiWhitespace(json.substr(0, kMaxMessage)));
  }
  std::string message = error["msg"].get<std::string>();
  if (error.contains("details") && error["details"].is_string() &&
      !error["details"].get_ref<const std::string&>().empty()) {
    absl::StrAppend(&message, ": ", error["details"].get_ref<const std::string&>());
  }
  message.resize(std::min(message.size(), kMaxMessage));
  return message;
}

absl::Status CheckCniResult(absl::string_view json, const Endpoint& endpoint) {
  const Json result = Json::parse(json.begin(), json.end(), nullptr, false);
  bool has4 = false, has6 = false;
  if (result.is_object() && result.contains("ips") && result["ips"].is_array()) {
    for (const Json& ip : result["ips"]) {
      const Json address = ip.is_object() ? ip.value("address", Json()) : Json();
      has4 = has4 || address == Address4(endpoint);
      has6 = has6 || address == Address6(endpoint);
    }
  }
  return has4 && has6
             ? absl::OkStatus()
             : absl::InternalError(absl::StrCat("the CNI plugin bridge did not give ",
                                                has4 ? Address6(endpoint) : Address4(endpoint)));
}

absl::Status RunCniBridge(const NetworkPaths& paths, CniCommand command, const Endpoint& endpoint,
                          const std::string& netns) {
  const char* verb = command == CniCommand::kAdd ? "ADD" : "DEL";
  VIBE_ASSIGN_OR_RETURN(const SubprocessResult result,
                        RunSubprocess({.args = {(paths.cni_plugins / "bridge").string()},
                                       .input = CniConfig(endpoint),
                                       .env = {{"CNI_COMMAND", verb},
                                               {"CNI_CONTAINERID", endpoint.name},
                                               {"CNI_NETNS", netns},
                                               {"CNI_IFNAME", "eth0"},
                                               {"CNI_PATH", paths.cni_plugins.string()}}}));
  if (result.exit_code != 0) {
    const std::string message = CniErrorMessage(result.out.empty() ? result.err : result.out);
    return absl::InternalError(
        absl::StrCat("the CNI plugin bridge failed to ", verb, " ", endpoint.name, ": ", message));
  }
  return command == CniCommand::kAdd ? CheckCniResult(result.out, endpoint) : absl::OkStatus();
}

}  // namespace vibe::network
