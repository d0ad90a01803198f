#include "supervisor/runtime_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/status.h"
#include "golden.h"

namespace vibe::supervisor {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

PlannedService Service() {
  PlannedService service;
  service.name = "web";
  service.netns = "vibe-0-0";
  service.cgroup = "/vibe/ns/web";
  service.mounts = {{"bind", "/data/volumes/v", "/v", {"rbind", "rw"}},
                    {"overlay", "overlay", "/app", {"lowerdir=/p", "upperdir=/u", "workdir=/w"}}};
  return service;
}

oci::ImageConfig Image() {
  oci::ImageConfig image;
  image.entrypoint = {"/entry"};
  image.cmd = {"serve", "--all"};
  image.env = {"PATH=/opt/bin", "MODE=image", "BROKEN", "EMPTY="};
  image.working_dir = "/srv";
  return image;
}

json SpecOf(const PlannedService& service, const oci::ImageConfig& image,
            const ResolvedUser& user = {}, const std::map<std::string, std::string>& secrets = {}) {
  const auto spec = RuntimeSpec(service, image, user, secrets);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? json::parse(*spec) : json();
}

TEST(RuntimeSpec, IsAsAgreed) {
  PlannedService service = Service();
  service.resources = {.cpus = 1.5, .memory_bytes = 256 << 20};
  const auto spec =
      RuntimeSpec(service, Image(), {.uid = 0, .gid = 0, .groups = {4}, .home = "/root"},
                  {{"TOKEN", "s3cret"}});
  ASSERT_TRUE(spec.ok());
  ExpectGolden("spec/web.json", nlohmann::ordered_json::parse(*spec).dump(2) + "\n");
}

TEST(RuntimeSpec, RunsWhatDockerWouldRun) {
  const auto args = [](std::vector<std::string> entrypoint, std::vector<std::string> command) {
    PlannedService service = Service();
    service.entrypoint = std::move(entrypoint);
    service.command = std::move(command);
    return SpecOf(service, Image())["process"]["args"].get<std::vector<std::string>>();
  };
  EXPECT_THAT(args({}, {}), ElementsAre("/entry", "serve", "--all"));
  EXPECT_THAT(args({}, {"other"}), ElementsAre("/entry", "other"));
  EXPECT_THAT(args({"/mine"}, {}), ElementsAre("/mine"));
  EXPECT_THAT(args({"/mine"}, {"other"}), ElementsAre("/mine", "other"));
}

TEST(RuntimeSpec, SaysWhenThereIsNothingToRun) {
  const auto spec = RuntimeSpec(Service(), oci::ImageConfig(), {}, {});
  EXPECT_TRUE(absl::IsInvalidArgument(spec.status()));
  EXPECT_EQ(ServiceOf(spec.status()), "web");
  EXPECT_NE(AdviceOf(spec.status()), "");
}

TEST(RuntimeSpec, RefusesTextThatTheKernelWouldCutShort) {
  PlannedService service = Service();
  service.command = {std::string("a\0b", 3)};
  EXPECT_TRUE(absl::IsInvalidArgument(RuntimeSpec(service, Image(), {}, {}).status()));
  oci::ImageConfig image = Image();
  image.env = {std::string("A=a\0b", 5)};
  EXPECT_TRUE(absl::IsInvalidArgument(RuntimeSpec(Service(), image, {}, {}).status()));
}

TEST(RuntimeSpec, LetsTheManifestOverTheImageAndSecretsOverBoth) {
  PlannedService service = Service();
  service.env = {{"MODE", "manifest"}, {"TOKEN", "placeholder"}};
  const json spec = SpecOf(service, Image(), {.uid = 7, .gid = 7, .groups = {}, .home = "/home/u"},
                           {{"TOKEN", "t"}});
  EXPECT_THAT(spec["process"]["env"].get<std::vector<std::string>>(),
              ElementsAre("EMPTY=", "HOME=/home/u", "HOSTNAME=web", "MODE=manifest",
                          "PATH=/opt/bin", "TOKEN=t"));
}

TEST(RuntimeSpec, StartsInTheFolderOfTheManifestThenOfTheImage) {
  PlannedService service = Service();
  EXPECT_EQ(SpecOf(service, Image())["process"]["cwd"], "/srv");
  service.working_dir = "/app";
  EXPECT_EQ(SpecOf(service, Image())["process"]["cwd"], "/app");
  oci::ImageConfig image = Image();
  image.working_dir = "";
  service.working_dir = "";
  EXPECT_EQ(SpecOf(service, image)["process"]["cwd"], "/");
}

TEST(RuntimeSpec, GivesNoPowerThatOrdinaryServersDoNotNeed) {
  const json spec = SpecOf(Service(), Image());
  const auto bounding = spec["process"]["capabilities"]["bounding"].get<std::vector<std::string>>();
  for (const char* capability : {"CAP_NET_RAW", "CAP_MKNOD", "CAP_SETFCAP", "CAP_AUDIT_WRITE",
                                 "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_CHROOT"}) {
    EXPECT_THAT(bounding, Not(Contains(capability)));
  }
  EXPECT_EQ(spec["process"]["noNewPrivileges"], true);
  EXPECT_EQ(spec["linux"]["resources"]["devices"][0]["allow"], false);
  EXPECT_EQ(spec["linux"]["namespaces"].back()["path"], "/run/netns/vibe-0-0");
}

TEST(RuntimeSpec, GivesAnOrdinaryUserNoCapabilityAtStart) {
  const json spec =
      SpecOf(Service(), Image(), {.uid = 1000, .gid = 1000, .groups = {}, .home = "/"});
  EXPECT_THAT(spec["process"]["capabilities"]["effective"], IsEmpty());
  EXPECT_THAT(spec["process"]["capabilities"]["permitted"], IsEmpty());
}

std::set<std::string> AllowedWithoutCondition(const json& seccomp) {
  std::set<std::string> names;
  for (const json& rule : seccomp["syscalls"]) {
    if (rule["action"] == "SCMP_ACT_ALLOW" && !rule.contains("args")) {
      names.insert(rule["names"].begin(), rule["names"].end());
    }
  }
  return names;
}

TEST(Seccomp, AllowsWhatServersUseAndNothingThatLeadsOut) {
  const json spec = SpecOf(Service(), Image());
  const json seccomp = spec["linux"]["seccomp"];
  EXPECT_EQ(seccomp["defaultAction"], "SCMP_ACT_ERRNO");
  const std::set<std::string> allowed = AllowedWithoutCondition(seccomp);
  for (const char* name : {"read", "execve", "epoll_wait", "futex", "statx", "rseq", "shmget",
                           "sync_file_range", "faccessat2", "close_range", "clock_nanosleep"}) {
    EXPECT_EQ(allowed.count(name), 1U) << name;
  }
  for (const char* name : {"mount",
                           "umount2",
                           "pivot_root",
                           "setns",
                           "unshare",
                           "bpf",
                           "ptrace",
                           "keyctl",
                           "add_key",
                           "init_module",
                           "finit_module",
                           "kexec_load",
                           "open_by_handle_at",
                           "perf_event_open",
                           "userfaultfd",
                           "io_uring_setup",
                           "reboot",
                           "settimeofday",
                           "clock_settime",
                           "socket",
                           "clone",
                           "clone3",
                           "process_vm_writev",
                           "move_mount",
                           "open_tree",
                           "fsopen"}) {
    EXPECT_EQ(allowed.count(name), 0U) << name;
  }
}

TEST(Seccomp, MakesTheCLibraryFallBackFromClone3) {
  const json spec = SpecOf(Service(), Image());
  bool found = false;
  for (const json& rule : spec["linux"]["seccomp"]["syscalls"]) {
    if (rule["names"] == json::array({"clone3"})) {
      found = rule["action"] == "SCMP_ACT_ERRNO" && rule["errnoRet"] == 38;
    }
  }
  EXPECT_TRUE(found);
}

TEST(ExecProcess, IsTheServicesOwnWithOtherArguments) {
  const auto spec =
      RuntimeSpec(Service(), Image(), {.uid = 5, .gid = 6, .groups = {}, .home = "/h"}, {});
  ASSERT_TRUE(spec.ok());
  const json process =
      json::parse(ExecProcess(*spec, {"sh", "-c", "id"}, {{"MODE", "exec"}}, "/tmp", true));
  EXPECT_EQ(process["args"], json::array({"sh", "-c", "id"}));
  EXPECT_EQ(process["user"]["uid"], 5);
  EXPECT_EQ(process["cwd"], "/tmp");
  EXPECT_EQ(process["terminal"], true);
  EXPECT_EQ(process["noNewPrivileges"], true);
  EXPECT_THAT(
      process["env"].get<std::vector<std::string>>(),
      ElementsAre("EMPTY=", "HOME=/h", "HOSTNAME=web", "MODE=exec", "PATH=/opt/bin", "TERM=xterm"));
  const json plain = json::parse(ExecProcess(*spec, {"true"}, {}, "", false));
  EXPECT_EQ(plain["cwd"], "/srv");
  EXPECT_EQ(plain["terminal"], false);
}

TEST(ExecProcess, SurvivesABrokenSpec) {
  EXPECT_EQ(json::parse(ExecProcess("not json", {"a"}, {}, "", false))["args"][0], "a");
}

// ---- users
// ---------------------------------------------------------------------------------------

constexpr char kPasswd[] =
    "root:x:0:0:root:/root:/bin/sh\n"
    "broken line\n"
    "postgres:x:70:70::/var/lib/postgresql:/bin/sh\n"
    "1000:x:42:42::/digits:/bin/sh\n"
    "huge:x:99999999999:1::/:/bin/sh\n";
constexpr char kGroup[] =
    "root:x:0:root\nssl:x:101:postgres,other\npostgres:x:70:postgres\nstaff:x:50:\n";

TEST(ResolveUser, IsRootByDefault) {
  const auto user = ResolveUser("", kPasswd, kGroup);
  ASSERT_TRUE(user.ok());
  EXPECT_EQ(user->uid, 0U);
  EXPECT_EQ(user->home, "/root");
}

TEST(ResolveUser, FindsNamesWithTheirGroups) {
  const auto user = ResolveUser("postgres", kPasswd, kGroup);
  ASSERT_TRUE(user.ok());
  EXPECT_EQ(user->uid, 70U);
  EXPECT_EQ(user->gid, 70U);
  EXPECT_EQ(user->home, "/var/lib/postgresql");
  EXPECT_THAT(user->groups, ElementsAre(101U));
}

TEST(ResolveUser, TakesAnExplicitGroupAlone) {
  const auto user = ResolveUser("postgres:staff", kPasswd, kGroup);
  ASSERT_TRUE(user.ok());
  EXPECT_EQ(user->gid, 50U);
  EXPECT_THAT(user->groups, IsEmpty());
  EXPECT_EQ(ResolveUser("70:5", kPasswd, kGroup)->gid, 5U);
}

TEST(ResolveUser, TakesNumbersThatTheImageDoesNotKnow) {
  const auto user = ResolveUser("1234", kPasswd, kGroup);
  ASSERT_TRUE(user.ok());
  EXPECT_EQ(user->uid, 1234U);
  EXPECT_EQ(user->gid, 0U);
  EXPECT_EQ(user->home, "/");
  EXPECT_EQ(ResolveUser("1000", kPasswd, kGroup)->uid, 42U) << "a name of digits is a name";
}

TEST(ResolveUser, RefusesWhatCannotBe) {
  for (const char* user : {"nobody-here", "postgres:nogroup", "4294967295", "-1", "huge", "1 2"}) {
    EXPECT_FALSE(ResolveUser(user, kPasswd, kGroup).ok()) << user;
  }
}

}  // namespace
}  // namespace vibe::supervisor
