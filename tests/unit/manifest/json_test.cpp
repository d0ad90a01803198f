// ToJson is canonical, and Parse reads the same manifest from it.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "manifests.h"

namespace vibe::manifest {
namespace {

TEST(ToJson, LeavesDefaultsOutAndKeepsTheOrder) {
  EXPECT_EQ(ToJson(*Parse(WithService("")).manifest),
            R"({"kind":"vibe.app/v1","id":"com.example.notes","name":"Notes","version":"1.0.0",)"
            R"("services":[{"name":"web","image":"nginx"}]})");
  EXPECT_EQ(
      ToJson(
          *Parse(WithHead(
                     "runtime: {mode: compose, composeFile: c.yaml}\nsecurity: {network: true}\n"))
               .manifest),
      R"({"kind":"vibe.app/v1","id":"com.example.notes","name":"Notes","version":"1.0.0",)"
      R"("runtime":{"mode":"compose","composeFile":"c.yaml"},"security":{"network":true}})");
}

TEST(ToJson, WritesTheSameForEverySpelling) {
  const auto json = [](const std::string& keys) {
    return ToJson(*Parse(WithService(keys + "state: {volumes: [{name: d}]}\n")).manifest);
  };
  EXPECT_EQ(json("    mounts: [{source: d, target: /d}]\n"),
            json("    stateVolumes: [\"d:/d/\"]\n"));
  EXPECT_EQ(json("    resources: {memory: 1g}\n"), json("    resources: {memory: 1024MiB}\n"));
  EXPECT_EQ(json("    healthcheck: {test: x, interval: 90s}\n"),
            json("    healthcheck: {test: [CMD-SHELL, x], interval: 1m30s, retries: 3}\n"));
  EXPECT_EQ(json("    hooks: {preSave: {command: [a], timeout: 30s}, postRestore: }\n"),
            json("    hooks: {preSave: {command: [\"a\"]}}\n"));
  EXPECT_EQ(json("    hooks:\n"), json(""));
  EXPECT_EQ(json("    env: {B: 1, A: 2}\n"), json("    env: {A: \"2\", B: \"1\"}\n"));
}

TEST(ToJson, SurvivesTextThatIsNoUtf8) {
  Manifest manifest;
  manifest.name = "\xff";
  EXPECT_NE(ToJson(manifest).find("\xef\xbf\xbd"), std::string::npos);
}

// Valid manifests of every shape.
class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  Manifest Make() {
    Manifest manifest;
    manifest.id = "com.example.a-b" + std::to_string(Below(100));
    manifest.name = Text(1, 20, false);
    manifest.version =
        std::to_string(Below(9)) + ".0." + std::to_string(Below(9)) + (Coin() ? "-rc.1+b" : "");
    manifest.icon = Coin() ? "icons/" + Word() : "";
    for (size_t i = Below(4); i > 0; --i) {
      manifest.state.volumes.push_back({"v" + std::to_string(i), Consistency(Below(3))});
    }
    if (Below(5) == 0) {
      manifest.mode = RuntimeMode::kCompose;
      manifest.compose_file = Word() + ".yaml";
    } else {
      for (size_t i = 1 + Below(20); i > 0; --i) {
        manifest.services.push_back(MakeService(manifest));
      }
    }
    manifest.state.autosave = Coin();
    manifest.state.autosave_debounce_seconds = Coin() ? 30 : static_cast<int64_t>(Below(86'401));
    manifest.state.max_snapshots = Coin() ? 100 : 1 + static_cast<int64_t>(Below(10'000));
    manifest.network = Coin();
    manifest.allow_host_file_import = Coin();
    for (size_t i = Below(3); i > 0; --i) {
      manifest.secrets.push_back({"S" + std::to_string(i), Coin(), Text(0, 30, true)});
    }
    manifest.ui = {Coin(), Coin(), Coin(), Coin()};
    if (Coin()) {
      manifest.publisher.emplace();
      manifest.publisher->name = Coin() ? Text(1, 9, false) : "";
      if (Coin()) {
        manifest.publisher->signing_scheme = "ed25519";
        manifest.publisher->signature_file = Coin() ? "a.sig" : "";
        manifest.publisher->public_key_file = Coin() ? "keys/a.pub" : "";
      }
    }
    return manifest;
  }

 private:
  size_t Below(size_t limit) { return random_() % limit; }
  bool Coin() { return Below(2) == 0; }
  std::string Word() { return "w" + std::to_string(Below(1000)); }

  // Texts that YAML and JSON could take for something else.
  std::string Text(size_t min, size_t max, bool controls) {
    static const char* const kPieces[] = {
        "a",    " ",  ":",  "- ",   "#",    "\"",     "'",      "\\",      "{", "}",
        "null", "~",  "é",  "😀",    "true", "*x",     "&y",     "\\ud83d", "%", "!",
        "\t",   "\n", "\r", "\x7f", "\x01", "\u0085", "\ufeff", "\u2028"};
    constexpr size_t kPrintable = 20;
    std::string text;
    for (size_t i = min + Below(max - min + 1); i > 0; --i) {
      text += kPieces[Below(controls ? std::size(kPieces) : kPrintable)];
    }
    return text;
  }

  std::vector<std::string> Texts() {
    std::vector<std::string> texts;
    for (size_t i = Below(4); i > 0; --i) {
      texts.push_back(Text(0, 12, true));
    }
    return texts;
  }

  Service MakeService(const Manifest& manifest) {
    Service service;
    const size_t index = manifest.services.size();
    service.name = "s-" + std::to_string(index);
    for (size_t i = Below(3); i > 0; --i) {
      service.aliases.push_back("a" + std::to_string(i) + ".of-" + std::to_string(index));
    }
    service.image = "localhost:5000/" + Word() + ":1";
    service.entrypoint = Texts();
    service.command = Texts();
    for (size_t i = Below(4); i > 0; --i) {
      service.env[(Coin() ? "V" : "v_") + std::to_string(i)] = Text(0, 12, true);
    }
    for (size_t i = Below(4); i > 0; --i) {
      service.ports.push_back(
          {static_cast<uint16_t>(65'536 - i), Exposure(Below(2)), Protocol(Below(2))});
    }
    for (size_t i = 0; i < manifest.state.volumes.size(); ++i) {
      if (Coin()) {
        service.mounts.push_back({manifest.state.volumes[i].name, "/m/" + std::to_string(i)});
      }
    }
    for (size_t i = 0; i < index; ++i) {
      if (Below(4) == 0) {
        service.depends_on.push_back("s-" + std::to_string(i));
      }
    }
    if (Coin()) {
      Healthcheck& check = service.healthcheck.emplace();
      check.test = Coin() ? std::vector<std::string>{"CMD", Word(), Text(0, 9, true)}
                          : std::vector<std::string>{"CMD-SHELL", Text(1, 9, true)};
      check.interval_ms = Coin() ? 30'000 : 1 + static_cast<int64_t>(Below(86'400'000));
      check.timeout_ms = Coin() ? 30'000 : 1'000 * (1 + static_cast<int64_t>(Below(1'000)));
      check.start_period_ms = static_cast<int64_t>(Below(5'000));
      check.retries = 1 + static_cast<int>(Below(10));
    }
    for (auto* hook : {&service.hooks.pre_save, &service.hooks.post_restore}) {
      if (Coin()) {
        *hook = Hook{.command = {Word(), Text(0, 9, true)},
                     .timeout_ms = Coin() ? 30'000 : 1 + static_cast<int64_t>(Below(600'000))};
      }
    }
    service.working_dir = Coin() ? "/" : Coin() ? "/srv/a b" : "";
    service.user = Coin() ? "app:1000" : "";
    service.restart = Restart(Below(3));
    service.resources.cpus = Coin() ? 0 : 0.01 + static_cast<double>(Below(1'000'000)) / 977;
    service.resources.memory_bytes =
        Coin() ? 0 : (6 << 20) + static_cast<int64_t>(Below(1'000'000'000));
    if (Coin()) {
      service.tmpfs.push_back("/tmp");
    }
    return service;
  }

  std::mt19937 random_;
};

TEST(ToJson, IsReadAsTheSameManifest) {
  for (unsigned seed = 0; seed < 2'000; ++seed) {
    const Manifest manifest = Generator(seed).Make();
    const std::string json = ToJson(manifest);
    const ParseResult result = Parse(json);
    ASSERT_TRUE(result.manifest.has_value()) << ToStatus(result, "json") << "\n" << json;
    ASSERT_TRUE(*result.manifest == manifest) << json << "\n" << ToJson(*result.manifest);
    ASSERT_EQ(ToJson(*result.manifest), json);
  }
}

// Whatever is cut from or changed in a manifest, the parser ends, and says why when it refuses.
TEST(Parse, AnyDamageIsReportedOrHarmless) {
  std::mt19937 random(1);
  for (unsigned seed = 0; seed < 3'000; ++seed) {
    std::string text = ToJson(Generator(seed % 50).Make());
    for (int change = 0; change < 3; ++change) {
      const size_t at = random() % text.size();
      if (random() % 2 == 0) {
        text.erase(at, 1 + random() % 8);
        text += " ";
      } else {
        text[at] = "\"{}[]:,\\\n\t -#&*!|>'%@`0aé"[random() % 25];
      }
    }
    const ParseResult result = Parse(text);
    bool has_error = false;
    for (const Diagnostic& diagnostic : result.diagnostics) {
      has_error = has_error || diagnostic.severity == Diagnostic::Severity::kError;
      ASSERT_GE(diagnostic.line, 1);
      ASSERT_GE(diagnostic.column, 1);
      ASSERT_FALSE(diagnostic.message.empty());
    }
    ASSERT_EQ(result.manifest.has_value(), !has_error) << text;
  }
}

}  // namespace
}  // namespace vibe::manifest
