// What a good manifest is read as.
#include "manifest/parse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/status.h"
#include "manifests.h"

namespace vibe::manifest {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

Manifest Parsed(absl::string_view text) {
  const ParseResult result = Parse(text);
  EXPECT_TRUE(result.manifest.has_value()) << ToStatus(result, "vibe.yaml") << "\n" << text;
  return result.manifest.value_or(Manifest());
}

Service ParsedService(absl::string_view keys) {
  const Manifest manifest = Parsed(WithService(keys));
  return manifest.services.empty() ? Service() : manifest.services[0];
}

TEST(Parse, ReadsTheSmallestManifest) {
  const Manifest manifest = Parsed(WithService(""));
  EXPECT_EQ(manifest.id, "com.example.notes");
  EXPECT_EQ(manifest.name, "Notes");
  EXPECT_EQ(manifest.version, "1.0.0");
  EXPECT_EQ(manifest.mode, RuntimeMode::kNative);
  ASSERT_EQ(manifest.services.size(), 1U);
  EXPECT_EQ(manifest.services[0].name, "web");
  EXPECT_EQ(manifest.services[0].image, "nginx");
  EXPECT_EQ(manifest.services[0].restart, Restart::kOnFailure);
  EXPECT_EQ(manifest.state, State());
  EXPECT_FALSE(manifest.network);
  EXPECT_FALSE(manifest.publisher.has_value());
}

TEST(Parse, ReadsEveryKey) {
  const Manifest manifest = Parsed(WithHead(R"(icon: assets/icon.png
runtime:
  mode: native
services:
  - name: web
    aliases: [www, shop.internal]
    image: ghcr.io/example/web@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    entrypoint: [/usr/bin/env]
    command: ["node", server.js, 8080, true]
    env: {PORT: 8080, DEBUG: true, EMPTY: "", RATE: 1.50}
    ports:
      - container: 8080
      - {container: 53, hostExposure: none, protocol: udp}
    mounts:
      - {source: "state:uploads", target: /srv//uploads/./x/}
      - {source: data, target: /data}
    stateVolumes: ["data:/var/lib/x"]
    dependsOn: [db]
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost"]
      interval: 1m30s
      timeout: 1.5s
      retries: 5
      startPeriod: 500ms
    hooks:
      preSave: {command: [/app/flush, 1, "a\nb"], timeout: 1m30s}
      postRestore: {command: [/app/load]}
    workingDir: /srv/
    user: 1000:1000
    restart: no
    resources: {cpus: "0.5", memory: 256m}
    tmpfs: [/tmp, /run/x/]
  - name: db
    image: postgres:15
    restart: always
state:
  autosave: true
  autosaveDebounceSeconds: 5
  retention: {maxSnapshots: 7}
  volumes:
    - name: uploads
    - {name: data, consistency: postgres}
security: {network: true, allowHostFileImport: true}
secrets:
  - {name: API_KEY, required: true, howToObtain: "Ask\nthem"}
ui: {showBackButton: true, showForwardButton: true, showReloadButton: true, showHomeButton: true}
publisher:
  name: Example
  signing: {scheme: ed25519, signatureFile: app.sig, publicKeyFile: _vibe_publisher.pub}
)"));
  EXPECT_EQ(manifest.icon, "assets/icon.png");
  ASSERT_EQ(manifest.services.size(), 2U);
  const Service& web = manifest.services[0];
  EXPECT_THAT(web.aliases, ElementsAre("www", "shop.internal"));
  EXPECT_THAT(web.entrypoint, ElementsAre("/usr/bin/env"));
  EXPECT_THAT(web.command, ElementsAre("node", "server.js", "8080", "true"));
  EXPECT_THAT(web.env, ElementsAre(Pair("DEBUG", "true"), Pair("EMPTY", ""), Pair("PORT", "8080"),
                                   Pair("RATE", "1.50")));
  EXPECT_THAT(web.ports, ElementsAre(Port{8080, Exposure::kAuto, Protocol::kTcp},
                                     Port{53, Exposure::kNone, Protocol::kUdp}));
  EXPECT_THAT(web.mounts, ElementsAre(Mount{"uploads", "/srv/uploads/x"}, Mount{"data", "/data"},
                                      Mount{"data", "/var/lib/x"}));
  EXPECT_THAT(web.depends_on, ElementsAre("db"));
  EXPECT_EQ(web.healthcheck,
            (Healthcheck{{"CMD", "curl", "-f", "http://localhost"}, 90'000, 1'500, 500, 5}));
  EXPECT_EQ(web.hooks,
            (Hooks{Hook{{"/app/flush", "1", "a\nb"}, 90'000}, Hook{{"/app/load"}, 30'000}}));
  EXPECT_EQ(web.working_dir, "/srv");
  EXPECT_EQ(web.user, "1000:1000");
  EXPECT_EQ(web.restart, Restart::kNo);
  EXPECT_EQ(web.resources, (Resources{0.5, 256 << 20}));
  EXPECT_THAT(web.tmpfs, ElementsAre("/tmp", "/run/x"));
  EXPECT_EQ(manifest.services[1].restart, Restart::kAlways);
  EXPECT_EQ(
      manifest.state,
      (State{true, 5, 7, {{"uploads", Consistency::kGeneric}, {"data", Consistency::kPostgres}}}));
  EXPECT_TRUE(manifest.network);
  EXPECT_TRUE(manifest.allow_host_file_import);
  EXPECT_THAT(manifest.secrets, ElementsAre(Secret{"API_KEY", true, "Ask\nthem"}));
  EXPECT_EQ(manifest.ui, (Ui{true, true, true, true}));
  EXPECT_EQ(manifest.publisher,
            (Publisher{"Example", "ed25519", "app.sig", "_vibe_publisher.pub"}));
}

TEST(Parse, TakesAnEmptyKeyForAnAbsentOne) {
  const Manifest manifest =
      Parsed(WithService("    env:\n    ports: ~\n    dependsOn: null\n"
                         "state:\nsecrets:\npublisher:\n"));
  EXPECT_TRUE(manifest.services[0].env.empty());
  EXPECT_FALSE(manifest.publisher.has_value());
}

TEST(Parse, ReadsTheOldSpellingOfDependsOn) {
  const Manifest manifest =
      Parsed(WithService("    dependOn: [db]\n  - name: db\n    image: postgres\n"));
  EXPECT_THAT(manifest.services[0].depends_on, ElementsAre("db"));
  EXPECT_EQ(Report(WithService("    dependOn: [db]\n  - name: db\n    image: postgres\n")), "");
}

TEST(Parse, ReadsTheFormsOfAHealthcheck) {
  const auto test = [](absl::string_view form) {
    return ParsedService(absl::StrCat("    healthcheck: {test: ", form, "}\n")).healthcheck->test;
  };
  EXPECT_THAT(test("pg_isready -U app || exit 1"),
              ElementsAre("CMD-SHELL", "pg_isready -U app || exit 1"));
  EXPECT_THAT(test("[CMD-SHELL, a b]"), ElementsAre("CMD-SHELL", "a b"));
  EXPECT_THAT(test("[NONE]"), ElementsAre("NONE"));
}

TEST(Parse, ReadsACommandOverSeveralLines) {
  EXPECT_THAT(
      ParsedService("    command:\n      - sh\n      - -c\n      - |\n        a\n        b\n")
          .command,
      ElementsAre("sh", "-c", "a\nb\n"));
}

TEST(Parse, IgnoresServicesOfAComposeApp) {
  const std::string text = WithHead(
      "runtime: {mode: compose, composeFile: deploy/compose.yaml}\nservices: [what, ever]\n");
  const Manifest manifest = Parsed(text);
  EXPECT_EQ(manifest.mode, RuntimeMode::kCompose);
  EXPECT_EQ(manifest.compose_file, "deploy/compose.yaml");
  EXPECT_TRUE(manifest.services.empty());
  EXPECT_EQ(Report(text),
            "6:11: warning: services: is ignored: with `mode: compose` the services come from the "
            "Compose file\n");
}

TEST(Parse, IgnoresTheComposeFileOfANativeApp) {
  const std::string text = WithService("runtime: {composeFile: ../x}\n");
  EXPECT_EQ(Parsed(text).compose_file, "");
  EXPECT_THAT(Report(text), HasSubstr("8:24: warning: runtime.composeFile: is ignored"));
}

TEST(Parse, WarnsAboutVariablesInLowerCase) {
  const std::string text = WithService("    env:\n      http_proxy: x\n      GOOD: y\n");
  EXPECT_EQ(Parsed(text).services[0].env.size(), 2U);
  EXPECT_EQ(
      Report(text),
      "9:7: warning: services[0].env.http_proxy: variables are usually written in upper case: "
      "HTTP_PROXY\n");
}

TEST(Parse, TakesAnAliasOnce) {
  const std::string text = WithService("    aliases: [www, web, www]\n");
  EXPECT_THAT(Parsed(text).services[0].aliases, ElementsAre("www"));
  EXPECT_EQ(Report(text),
            "8:20: warning: services[0].aliases[1]: \"web\" is the service's name already\n"
            "8:25: warning: services[0].aliases[2]: \"www\" is listed twice\n");
}

TEST(Parse, WarnsOfANameThatIsAnAddressToResolvers) {
  for (const std::string name : {"10", "127", "0x7f", "08"}) {
    const std::string text = Replaced(WithService("    aliases: [www]\n"), "web", name);
    EXPECT_EQ(Report(text),
              "6:11: warning: services[0].name: \"" + name +
                  "\" is an address to programs that look names up: the others reach this one only "
                  "by an alias; take a name with letters\n");
    EXPECT_EQ(Parsed(text).services[0].name, name) << "the format allows it";
  }
  for (const std::string name : {"10-1", "a1", "1a", "0x7g", "x10", "10-"}) {
    EXPECT_EQ(Report(Replaced(WithService(""), "web", name)), "") << name;
  }
}

TEST(Parse, WarnsOfANameThatNobodyElseFindsTheServiceBy) {
  const std::string text = Replaced(WithService("    aliases: [www]\n"), "web", "localhost");
  EXPECT_EQ(Parsed(text).services[0].name, "localhost");
  EXPECT_EQ(Report(text),
            "6:11: warning: services[0].name: \"localhost\" means each service itself: the others "
            "reach this one only by an alias\n");
}

TEST(Parse, WarnsWhenASecretHidesAVariable) {
  EXPECT_EQ(Report(WithService("    env:\n      KEY: x\nsecrets:\n  - name: KEY\n")),
            "9:7: warning: services[0].env: the secret KEY takes the place of the variable here\n");
}

TEST(Parse, ReadsJsonAsOtherProgramsWriteIt) {
  const char kJson[] =
      "{\"kind\":\"vibe.app/v1\",\"id\":\"com.example.a\",\"name\":\"\\ud83d\\ude00 "
      "\\u00e9\\/\",\r\n"
      "\t\"version\" : \"1.0.0\" ,\n\t\t\"services\":[{\"name\":\"web\",\"image\":\"nginx\","
      "\"env\":{\"A\":\"\\\\ud83d\\\\ude00\",\"N\":1e3},\"ports\":[{\"container\":80}]}]}";
  const Manifest manifest = Parsed(kJson);
  EXPECT_EQ(manifest.name, "😀 é/");
  EXPECT_EQ(manifest.services[0].env.at("A"), "\\ud83d\\ude00");
  EXPECT_EQ(manifest.services[0].env.at("N"), "1e3");
  EXPECT_EQ(manifest.services[0].ports[0].container, 80);
}

TEST(Parse, CountsColumnsBehindAPairOfEscapes) {
  EXPECT_THAT(Report("{\"name\":\"\\ud83d\\ude00\",\"nme\":1}"),
              HasSubstr("1:24: error: nme: unknown key"));
}

TEST(Parse, SkipsAByteOrderMark) {
  EXPECT_TRUE(Parse(absl::StrCat("\xef\xbb\xbf", WithService(""))).manifest.has_value());
  EXPECT_THAT(Report("\xef\xbb\xbfkind: x\n"), HasSubstr("1:7: error: kind: must be vibe.app/v1"));
}

TEST(Parse, ReadsWindowsLineEnds) {
  std::string text;
  for (const char c : WithService("    command: [a]\n")) {
    text += c == '\n' ? "\r\n" : std::string(1, c);
  }
  EXPECT_EQ(Parsed(text), Parsed(WithService("    command: [a]\n")));
}

TEST(Parse, ReadsTheManifestsOfTheOtherTests) {
  const std::filesystem::path folder =
      std::filesystem::path(VIBE_TEST_SOURCE_DIR) / "golden" / "plan";
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") {
      std::stringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      SCOPED_TRACE(entry.path());
      Parsed(text.str());
      EXPECT_EQ(Report(text.str()), "");
      ++count;
    }
  }
  EXPECT_GE(count, 3);
}

// The reference's examples are manifests that people copy.
TEST(Parse, ReadsTheExamplesOfItsReference) {
  std::stringstream page;
  page << std::ifstream(std::filesystem::path(VIBE_TEST_SOURCE_DIR) / "../docs/formats/manifest.md")
              .rdbuf();
  const std::string text = page.str();
  const std::string fence = "```yaml\n";
  int count = 0;
  for (size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at)) {
    at += fence.size();
    const std::string example = text.substr(at, text.find("```", at) - at);
    Parsed(example);
    EXPECT_EQ(Report(example), "");
    ++count;
  }
  EXPECT_EQ(count, 2);
}

TEST(ToStatus, HasAllErrorsAndNoWarning) {
  const ParseResult result =
      Parse(WithService("    env: {a: 1}\n    prots: []\n    user: 'a b'\n"));
  const absl::Status status = ToStatus(result, "vibe.yaml");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidManifest);
  EXPECT_EQ(
      status.message(),
      "vibe.yaml:9:5: error: services[0].prots: unknown key \"prots\"; did you mean \"ports\"?\n"
      "vibe.yaml:10:11: error: services[0].user: must be a user, or user:group, by name or number, "
      "not \"a b\"");
  EXPECT_TRUE(ToStatus(Parse(WithService("    env: {a: 1}\n")), "f").ok());
}

}  // namespace
}  // namespace vibe::manifest
