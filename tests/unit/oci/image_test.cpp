#include "oci/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace vibe::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kA = "sha256:" + std::string(64, 'a');
const std::string kB = "sha256:" + std::string(64, 'b');
const std::string kC = "sha256:" + std::string(64, 'c');
constexpr char kManifestType[] = "application/vnd.oci.image.manifest.v1+json";

std::string Entry(const std::string& digest, const std::string& platform,
                  const std::string& type = kManifestType) {
  return absl::StrCat(R"({"mediaType":")", type, R"(","size":7,"digest":")", digest, "\"",
                      platform.empty() ? "" : ",\"platform\":" + platform, "}");
}

std::string Index(const std::string& entries) {
  return absl::StrCat(R"({"schemaVersion":2,"manifests":[)", entries, "]}");
}

constexpr char kAmd64[] = R"({"os":"linux","architecture":"amd64"})";
constexpr char kAmd64V3[] = R"({"os":"linux","architecture":"amd64","variant":"v3"})";
constexpr char kArm64[] = R"({"os":"linux","architecture":"arm64","variant":"v8"})";
constexpr char kWindows[] = R"({"os":"windows","architecture":"amd64","os.version":"10"})";
constexpr char kUnknown[] = R"({"os":"unknown","architecture":"unknown"})";

const std::string kIndex =
    Index(absl::StrCat(Entry(kA, kWindows), ",", Entry(kB, kAmd64), ",", Entry(kC, kArm64)));

const std::string kManifest = absl::StrCat(
    R"({"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":3,"digest":")",
    kA,
    R"("},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":10,"digest":")",
    kB,
    R"("},{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":20,"digest":")",
    kC, R"("}]})");

const std::string kConfig = absl::StrCat(
    R"({"os":"linux","architecture":"amd64","config":{"Entrypoint":["/run"],"Cmd":["a","b c"],)"
    R"("Env":["PATH=/bin","EMPTY=","broken","=x"],"WorkingDir":"/srv","User":"app:app",)"
    R"("StopSignal":"SIGINT","Labels":{"x":"y"}},"rootfs":{"type":"layers","diff_ids":[")",
    kA, R"("]}})");

TEST(ImageTest, ChoosesThePlatform) {
  EXPECT_EQ(SelectPlatform(kIndex, {"linux", "amd64"}).value().digest, kB);
  EXPECT_EQ(SelectPlatform(kIndex, {"linux", "arm64"}).value().digest, kC);
  EXPECT_EQ(SelectPlatform(kIndex, {"linux", "amd64"}).value().size, 7);
}

TEST(ImageTest, PrefersTheVariantThatEveryMachineRuns) {
  const std::string index = Index(absl::StrCat(Entry(kA, kAmd64V3), ",", Entry(kB, kAmd64)));
  EXPECT_EQ(SelectPlatform(index, {"linux", "amd64"}).value().digest, kB);
}

TEST(ImageTest, PassesOverAttestationsAndOtherThings) {
  const std::string index = Index(absl::StrCat(
      Entry(kA, kUnknown), ",", Entry(kB, kAmd64, "application/x+json"), ",", Entry(kC, kAmd64)));
  EXPECT_EQ(SelectPlatform(index, {"linux", "amd64"}).value().digest, kC);
}

TEST(ImageTest, ASingleEntryWithoutPlatformServesAll) {
  EXPECT_EQ(SelectPlatform(Index(Entry(kA, "")), {"linux", "amd64"}).value().digest, kA);
}

TEST(ImageTest, AMissingPlatformNamesThoseThatThereAre) {
  const absl::Status status = SelectPlatform(kIndex, {"linux", "riscv64"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(status), Reason::kImagePullFailed);
  EXPECT_THAT(std::string(status.message()), HasSubstr("linux/riscv64"));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("windows/amd64, linux/amd64, linux/arm64/v8"));
}

TEST(ImageTest, ReadsAManifest) {
  const ImageManifest manifest = ParseManifest(kManifest).value();
  EXPECT_EQ(manifest.config.digest, kA);
  ASSERT_EQ(manifest.layers.size(), 2u);
  EXPECT_EQ(manifest.layers[0].digest, kB);
  EXPECT_EQ(manifest.layers[1].size, 20);
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ImageTest, RefusesManifestsThatMakeNoSense) {
  const std::string many = [] {
    std::string layers;
    for (int i = 0; i < 501; ++i) {
      absl::StrAppend(&layers, i == 0 ? "" : ",",
                      Entry(kB, "", "application/vnd.oci.image.layer.v1.tar"));
    }
    return absl::StrCat(R"({"schemaVersion":2,"config":)",
                        Entry(kA, "", "application/vnd.oci.image.config.v1+json"), R"(,"layers":[)",
                        layers, "]}");
  }();
  for (const std::string& text : std::vector<std::string>{
           "", "[]", "null", "{}", "{\"schemaVersion\":1}", kIndex, many,
           Replaced(kManifest, "\"size\":10", "\"size\":-1"),
           Replaced(kManifest, "\"size\":10", "\"size\":1.5"),
           Replaced(kManifest, "\"size\":10", "\"size\":\"10\""),
           Replaced(kManifest, "\"size\":10", "\"size\":18446744073709551615"),
           Replaced(kManifest, "\"size\":10", "\"size\":99999999999999999999999"),
           Replaced(kManifest, kB, "sha256:../../../etc/passwd"),
           Replaced(kManifest, kB, "md5:abc"),
           Replaced(kManifest, "layer.v1.tar+gzip", "layer.nondistributable.v1.tar"),
           Replaced(kManifest, "config.v1+json", "empty.v1+json"), std::string(100000, '['),
           std::string(9 << 20, ' ')}) {
    EXPECT_EQ(ParseManifest(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text.substr(0, 200);
  }
}

TEST(ImageTest, ReadsAConfig) {
  const ImageConfig config = ParseConfig(kConfig).value();
  EXPECT_THAT(config.entrypoint, ElementsAre("/run"));
  EXPECT_THAT(config.cmd, ElementsAre("a", "b c"));
  EXPECT_THAT(config.env, ElementsAre("PATH=/bin", "EMPTY="));
  EXPECT_EQ(config.working_dir, "/srv");
  EXPECT_EQ(config.user, "app:app");
  EXPECT_EQ(config.stop_signal, "SIGINT");
  EXPECT_THAT(config.diff_ids, ElementsAre(kA));
}

TEST(ImageTest, AConfigMayLeaveOutAlmostEverything) {
  EXPECT_TRUE(ParseConfig("{}").value().cmd.empty());
  EXPECT_TRUE(ParseConfig(R"({"config":null})").ok());
  EXPECT_TRUE(ParseConfig(R"({"config":{"Entrypoint":null,"Env":null}})").ok());
  EXPECT_THAT(ParseConfig(R"({"config":{"Cmd":"true"}})").value().cmd, ElementsAre("true"));
}

TEST(ImageTest, RefusesConfigsThatCouldHarm) {
  for (const std::string& text : std::vector<std::string>{
           "", "[]", R"({"config":{"Cmd":[1]}})", R"({"config":{"Cmd":{}}})",
           R"({"config":{"Env":["A=\u0000B"]}})", R"({"config":{"User":5}})",
           R"({"config":{"StopSignal":"TERM; rm"}})", R"({"rootfs":{"diff_ids":["x"]}})",
           R"({"rootfs":{"diff_ids":[null]}})",
           absl::StrCat(R"({"config":{"User":")", std::string(300, 'u'), "\"}}")}) {
    EXPECT_EQ(ParseConfig(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(ImageTest, ChainIdsAreThoseOfTheSpecification) {
  EXPECT_TRUE(ChainIds({}).empty());
  EXPECT_THAT(ChainIds({kA}), ElementsAre(kA));
  // Values from: printf 'sha256:aaa… sha256:bbb…' | sha256sum, and once more with sha256:ccc….
  EXPECT_THAT(
      ChainIds({kA, kB, kC}),
      ElementsAre(kA, "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c",
                  "sha256:c1377126441fb2f5ec2c21ae2a60255331d639e830f0ee1b40a36e52d4c40588"));
}

TEST(ImageTest, KnowsMediaTypes) {
  EXPECT_TRUE(IsIndex("application/vnd.docker.distribution.manifest.list.v2+json"));
  EXPECT_TRUE(IsIndex("application/vnd.oci.image.index.v1+json"));
  EXPECT_TRUE(IsManifest("application/vnd.docker.distribution.manifest.v2+json"));
  EXPECT_FALSE(IsManifest("application/vnd.docker.distribution.manifest.v1+prettyjws"));
  EXPECT_EQ(HostPlatform().os, "linux");
}

// Whatever a registry sends, the readers answer with a value or a status.
TEST(ImageTest, MutatedDocumentsNeverCrash) {
  std::mt19937 random(20240229);
  const auto pick = [&](size_t size) {
    return std::uniform_int_distribution<size_t>(0, size - 1)(random);
  };
  const std::string pieces[] = {
      "{",   "}",  "[",     "]",       "null", "\"",          ":",
      ",",   "-1", "1e999", "\\u0000", "\xff", "\"digest\":", "18446744073709551616",
      "true"};
  for (const std::string& seed : {kIndex, kManifest, kConfig}) {
    for (int round = 0; round < 3000; ++round) {
      std::string text = seed;
      for (size_t edits = 1 + pick(4); edits > 0 && !text.empty(); --edits) {
        const size_t at = pick(text.size());
        switch (pick(4)) {
          case 0:
            text[at] = static_cast<char>(pick(256));
            break;
          case 1:
            text.erase(at, 1 + pick(20));
            break;
          case 2:
            text.insert(at, pieces[pick(std::size(pieces))]);
            break;
          default:
            text.insert(at, text.substr(pick(text.size()), pick(60)));
        }
      }
      if (const auto selected = SelectPlatform(text, {"linux", "amd64"}); selected.ok()) {
        EXPECT_EQ(selected->digest.size(), 71u);
        EXPECT_GE(selected->size, 0);
      }
      if (const auto manifest = ParseManifest(text); manifest.ok()) {
        for (const Descriptor& layer : manifest->layers) {
          EXPECT_GE(layer.size, 0);
        }
      }
      if (const auto config = ParseConfig(text); config.ok()) {
        for (const std::string& entry : config->env) {
          EXPECT_NE(entry.find('='), std::string::npos);
        }
      }
    }
  }
}

}  // namespace
}  // namespace vibe::oci
