// The registry client against a real registry: Debian's docker-registry on loopback, filled by
// skopeo from an OCI layout that is made by hand.
#include "oci/registry.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/status.h"
#include "base/subprocess.h"
#include "oci/layout.h"

extern char** environ;

namespace vibe::oci {
namespace {

using ::testing::ElementsAre;

constexpr char kUser[] = "vibe";
constexpr char kPassword[] = "open sesame";
constexpr char kHtpasswd[] = "vibe:$2b$05$w8SKe0ipzuwm5yN0MtavKuOVqVMR8bTbbls6kfS7Bv34nLX.swh86\n";

// A running docker-registry with its storage in a folder of the test's.
class DockerRegistry {
 public:
  DockerRegistry(const std::filesystem::path& directory, bool login) {
    std::string config =
        absl::StrCat("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: ",
                     (directory / "storage").string(), "}}\nhttp: {addr: \"127.0.0.1:0\"}\n");
    if (login) {
      EXPECT_TRUE(ReplaceFile(directory / "htpasswd", kHtpasswd).ok());
      absl::StrAppend(&config,
                      "auth: {htpasswd: {realm: test, path: ", (directory / "htpasswd").string(),
                      "}}\n");
    }
    EXPECT_TRUE(ReplaceFile(directory / "config.yml", config).ok());
    Spawn((directory / "config.yml").string(), (directory / "log").string());
    AwaitPort(directory / "log");
  }

  ~DockerRegistry() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  std::string Address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  void Spawn(const std::string& config, const std::string& log) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    std::string program = "docker-registry", command = "serve", path = config;
    char* const args[] = {program.data(), command.data(), path.data(), nullptr};
    ASSERT_EQ(::posix_spawnp(&pid_, "docker-registry", &actions, nullptr, args, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }

  // The kernel chose the port; the log says which.
  void AwaitPort(const std::filesystem::path& log) {
    constexpr char kMarker[] = "listening on 127.0.0.1:";
    for (const absl::Time end = absl::Now() + absl::Seconds(20); absl::Now() < end;) {
      const std::string text = ReadFile(log, 1 << 20).value_or("");
      if (const size_t at = text.find(kMarker); at != std::string::npos) {
        const std::string rest = text.substr(at + sizeof kMarker - 1);
        const size_t end_of_number = rest.find_first_not_of("0123456789");
        if (end_of_number != std::string::npos) {
          ASSERT_TRUE(absl::SimpleAtoi(rest.substr(0, end_of_number), &port_));
          return;
        }
      }
      absl::SleepFor(absl::Milliseconds(20));
    }
    FAIL() << "docker-registry does not start: " << ReadFile(log, 1 << 20).value_or("");
  }

  pid_t pid_ = -1;
  int port_ = 0;
};

class RealRegistryTest : public ::testing::Test {
 protected:
  RealRegistryTest() {
    char name[] = "/tmp/vibe-registry-XXXXXX";
    directory_ = ::mkdtemp(name);
    MakeLayout();
  }
  ~RealRegistryTest() override { std::filesystem::remove_all(directory_); }

  std::string AddBlob(const std::string& media_type, const std::string& content) {
    const std::string digest = Sha256Digest(content);
    std::ofstream(directory_ / "layout/blobs/sha256" / digest.substr(7)) << content;
    return absl::StrCat(R"("mediaType":")", media_type, R"(","digest":")", digest, R"(","size":)",
                        content.size());
  }

  void MakeLayout() {
    std::filesystem::create_directories(directory_ / "layout/blobs/sha256");
    layer_.resize(3 << 20);
    for (size_t i = 0; i < layer_.size(); ++i) {
      layer_[i] = static_cast<char>(i * 2654435761u >> 13);
    }
    const std::string layer = AddBlob("application/vnd.oci.image.layer.v1.tar", layer_);
    const std::string config = AddBlob(
        "application/vnd.oci.image.config.v1+json",
        absl::StrCat(R"({"os":"linux","architecture":")", HostPlatform().architecture,
                     R"(","config":{"Cmd":["/hello"]},"rootfs":{"type":"layers","diff_ids":[")",
                     Sha256Digest(layer_), R"("]}})"));
    const std::string manifest = AddBlob(
        "application/vnd.oci.image.manifest.v1+json",
        absl::StrCat(
            R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",)"
            R"("config":{)",
            config, R"(},"layers":[{)", layer, "}]}"));
    const std::string index = AddBlob(
        "application/vnd.oci.image.index.v1+json",
        absl::StrCat(R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",)"
                     R"("manifests":[{)",
                     manifest, R"(,"platform":{"os":"linux","architecture":")",
                     HostPlatform().architecture, R"("}}]})"));
    std::ofstream(directory_ / "layout/oci-layout") << R"({"imageLayoutVersion":"1.0.0"})";
    std::ofstream(directory_ / "layout/index.json")
        << R"({"schemaVersion":2,"manifests":[{)" << index
        << R"(,"annotations":{"org.opencontainers.image.ref.name":"1"}}]})";
  }

  void Push(const DockerRegistry& registry, const std::string& credentials = "") {
    SubprocessOptions options;
    options.args = {"skopeo",
                    "copy",
                    "--all",
                    "--preserve-digests",
                    "--insecure-policy",
                    "--dest-tls-verify=false",
                    absl::StrCat("oci:", (directory_ / "layout").string(), ":1"),
                    absl::StrCat("docker://", registry.Address(), "/demo/hello:1")};
    if (!credentials.empty()) {
      options.args.insert(options.args.begin() + 2, absl::StrCat("--dest-creds=", credentials));
    }
    const auto result = RunSubprocess(options);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->exit_code, 0) << result->err;
  }

  // Reads the whole image as a pull does, and compares it with what the layout holds.
  void ExpectWholeImage(ImageSource& source) {
    const auto root = source.Resolve();
    ASSERT_TRUE(root.ok()) << root.status();
    ASSERT_TRUE(IsIndex(root->media_type)) << root->media_type;
    const auto selected = SelectPlatform(source.ReadDocument(*root).value(), HostPlatform());
    ASSERT_TRUE(selected.ok()) << selected.status();
    const ImageManifest manifest = ParseManifest(source.ReadDocument(*selected).value()).value();
    const ImageConfig config = ParseConfig(source.ReadDocument(manifest.config).value()).value();
    EXPECT_THAT(config.cmd, ElementsAre("/hello"));
    EXPECT_THAT(config.diff_ids, ElementsAre(Sha256Digest(layer_)));
    ASSERT_EQ(manifest.layers.size(), 1u);
    for (const int64_t offset : {int64_t{0}, int64_t{1234567}}) {
      std::string bytes;
      const absl::Status status =
          source.ReadBlob(manifest.layers[0], offset, [&](absl::string_view piece) {
            absl::StrAppend(&bytes, piece);
            return absl::OkStatus();
          });
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_TRUE(bytes == layer_.substr(static_cast<size_t>(offset)));
    }
  }

  static std::unique_ptr<ImageSource> Open(const std::string& name,
                                           const RegistryOptions& options = {}) {
    return OpenRegistry(ParseReference(name).value(), options);
  }

  std::filesystem::path directory_;
  std::string layer_;
};

TEST_F(RealRegistryTest, PullsWhatSkopeoPushed) {
  const DockerRegistry registry(directory_, /*login=*/false);
  Push(registry);
  const auto source = Open(registry.Address() + "/demo/hello:1");
  ExpectWholeImage(*source);

  const std::string digest = source->Resolve().value().digest;
  ExpectWholeImage(*Open(absl::StrCat(registry.Address(), "/demo/hello@", digest)));

  for (const char* name : {"/demo/hello:2", "/no/such:1"}) {
    const absl::Status status = Open(registry.Address() + name)->Resolve().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_EQ(status.message(), absl::StrCat(registry.Address(), name, ": no such image"));
    EXPECT_EQ(ReasonOf(status), Reason::kImagePullFailed);
  }
}

TEST_F(RealRegistryTest, PullsWithALogin) {
  const DockerRegistry registry(directory_, /*login=*/true);
  Push(registry, absl::StrCat(kUser, ":", kPassword));
  const std::string name = registry.Address() + "/demo/hello:1";
  EXPECT_EQ(Open(name)->Resolve().status().code(), absl::StatusCode::kUnauthenticated);
  RegistryOptions options;
  options.username = kUser;
  options.password = "wrong";
  EXPECT_EQ(Open(name, options)->Resolve().status().code(), absl::StatusCode::kUnauthenticated);
  options.password = kPassword;
  ExpectWholeImage(*Open(name, options));
}

TEST_F(RealRegistryTest, TheSameImageFromItsLayout) {
  std::filesystem::rename(directory_ / "layout", directory_ / "hello");
  const auto source = OpenLayout(directory_, ParseReference("demo/hello:1").value());
  ASSERT_TRUE(source.ok()) << source.status();
  ExpectWholeImage(**source);
}

}  // namespace
}  // namespace vibe::oci
