#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/substitute.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "network/network.h"

namespace vibe::network {
namespace {

// Wherever the internet is granted, these are not the internet: this host, other projects,
// neighbours by link, cloud metadata, multicast and what is reserved.
const char* const kRefused4[] = {"0.0.0.0/8",      "10.64.0.0/10", "127.0.0.0/8",
                                 "169.254.0.0/16", "224.0.0.0/4",  "240.0.0.0/4"};
const char* const kRefused6[] = {"::/127", "fd00:ec2::254/128", "fd76:6962:65::/48", "fe80::/10",
                                 "ff00::/8"};

// $0 internet, $1 same bridge, $2 and $3 sources, $4 and $5 refused, $6 and $7 nameservers: sets'
// contents.
constexpr char kSets[] = R"(table inet vibe
delete table inet vibe
table inet vibe {
  set internet {
    type ifname$0
  }
  set same_bridge {
    type ifname . ifname$1
  }
  set sources4 {
    type ifname . ipv4_addr
    flags interval$2
  }
  set sources6 {
    type ifname . ipv6_addr
    flags interval$3
  }
  set refused4 {
    type ipv4_addr
    flags interval
    auto-merge$4
  }
  set refused6 {
    type ipv6_addr
    flags interval
    auto-merge$5
  }
  set nameservers4 {
    type ipv4_addr$6
  }
  set nameservers6 {
    type ipv6_addr$7
  }
)";

// A bridge that no set lists yet gets nothing: every rule for it is a refusal. Same-bridge packets
// come by here only where the kernel hands bridged packets to the firewall.
constexpr char kChains[] = R"(
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname "vibe-*" jump check_source
  }
  chain check_source {
    iifname . ip saddr @sources4 return
    iifname . ip6 saddr @sources6 return
    ip6 saddr { ::, fe80::/10 } icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } return
    drop
  }

  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "vibe-*" goto from_project
    oifname "vibe-*" goto to_project
  }
  chain from_project {
    ct state established,related accept
    iifname . oifname @same_bridge accept
    oifname "vibe-*" goto refuse
$0    goto refuse
  }
  chain to_project {
    ct state established,related accept
    goto refuse
  }

  chain input {
    type filter hook input priority filter; policy accept;
    iifname "vibe-*" goto to_machine
  }
  chain to_machine {
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    goto refuse
  }

  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
)";

constexpr char kToUplink[] = R"(    iifname @internet oifname "$0" goto to_internet
)";

constexpr char kUplinkChains[] = R"(
  chain to_internet {
    ip daddr @nameservers4 meta l4proto { tcp, udp } th dport 53 accept
    ip6 daddr @nameservers6 meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @refused4 goto refuse
    ip6 daddr @refused6 goto refuse
    accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.64.0.0/10 oifname "$0" masquerade
    ip6 saddr fd76:6962:65::/48 oifname "$0" masquerade
  }
)";

// nft refuses an empty list of elements.
std::string Elements(const std::vector<std::string>& elements) {
  return elements.empty()
             ? ""
             : absl::StrCat("\n    elements = { ", absl::StrJoin(elements, ", "), " }");
}

template <typename Fixed>
std::string Merged(const Fixed& fixed, const std::vector<std::string>& added) {
  std::vector<std::string> all(std::begin(fixed), std::end(fixed));
  for (const std::string& element : added) {
    if (std::find(all.begin(), all.end(), element) == all.end()) {
      all.push_back(element);
    }
  }
  return Elements(all);
}

std::vector<std::string> OfFamily(const std::vector<std::string>& addresses, bool ipv6) {
  std::vector<std::string> chosen;
  for (const std::string& address : addresses) {
    if ((address.find(':') != std::string::npos) == ipv6) {
      chosen.push_back(address);
    }
  }
  return chosen;
}

std::string FindNft() {
  // A daemon that a user's session started often has no sbin in its PATH.
  for (const char* path : {"/usr/sbin/nft", "/sbin/nft"}) {
    if (::access(path, X_OK) == 0) {
      return path;
    }
  }
  return "nft";
}

}  // namespace

std::string FirewallText(const std::vector<FirewallProject>& projects,
                         const FirewallOptions& options) {
  std::vector<FirewallProject> sorted = projects;
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.index < b.index; });
  std::vector<std::string> internet, same_bridge, sources4, sources6;
  for (const FirewallProject& project : sorted) {
    const Subnet subnet = SubnetOf(project.index);
    const std::string bridge = absl::StrCat("\"", subnet.bridge, "\"");
    if (project.internet) {
      internet.push_back(bridge);
    }
    same_bridge.push_back(absl::StrCat(bridge, " . ", bridge));
    sources4.push_back(absl::StrCat(bridge, " . ", subnet.ipv4_subnet));
    sources6.push_back(absl::StrCat(bridge, " . ", subnet.ipv6_subnet));
  }
  std::string text = absl::Substitute(
      kSets, Elements(internet), Elements(same_bridge), Elements(sources4), Elements(sources6),
      Merged(kRefused4, options.blocked4), Merged(kRefused6, options.blocked6),
      Elements(OfFamily(options.nameservers, false)),
      Elements(OfFamily(options.nameservers, true)));
  const bool uplink = !options.uplink.empty();
  absl::StrAppend(
      &text, absl::Substitute(kChains, uplink ? absl::Substitute(kToUplink, options.uplink) : ""));
  if (uplink) {
    absl::StrAppend(&text, absl::Substitute(kUplinkChains, options.uplink));
  }
  return text + "}\n";
}

absl::Status ApplyFirewall(const std::string& text) {
  VIBE_ASSIGN_OR_RETURN(const SubprocessResult result,
                        RunSubprocess({.args = {FindNft(), "-f", "-"}, .input = text, .env = {}}));
  if (result.exit_code == 0) {
    return absl::OkStatus();
  }
  const std::vector<absl::string_view> lines =
      absl::StrSplit(absl::StripAsciiWhitespace(result.err), '\n');
  return absl::InternalError(absl::StrCat("nft refused the firewall: ", lines.front()));
}

}  // namespace vibe::network
