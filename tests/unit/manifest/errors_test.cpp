// What is wrong with a bad manifest, and where.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "manifests.h"

namespace vibe::manifest {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Bad {
  std::string text;
  std::string report;  // exactly, without the last line end
};

void ExpectReports(const std::vector<Bad>& cases) {
  for (const Bad& bad : cases) {
    EXPECT_EQ(Report(bad.text), bad.report + "\n") << bad.text;
    EXPECT_FALSE(Parse(bad.text).manifest.has_value()) << bad.text;
  }
}

// `value` stands in line 8 behind "    key: ".
std::string Key(const std::string& key, const std::string& value) {
  return WithService("    " + key + ": " + value + "\n");
}

TEST(Errors, OfTheTopLevel) {
  const std::string good = WithService("");
  ExpectReports({
      {Replaced(good, "vibe.app/v1", "vibe.app/v2"),
       "1:7: error: kind: must be vibe.app/v1, the only kind that this version reads; it is "
       "\"vibe.app/v2\""},
      {Replaced(good, "com.example.notes", "notes"),
       "2:5: error: id: must be a reverse DNS name such as com.example.my-app, each part starting "
       "with "
       "a letter, the first without hyphens; it is \"notes\""},
      {Replaced(good, "Notes", ""), "3:1: error: name: is empty: write it as name: My App"},
      {Replaced(good, "Notes", "\"a\\u001b[31m\""),
       "3:7: error: name: must not hold control characters or line ends"},
      {Replaced(good, "1.0.0", "1.0"),
       "4:10: error: version: must be a version of three numbers such as 1.4.0 or 2.0.0-rc.1 "
       "(SemVer "
       "2.0.0); it is \"1.0\""},
      {Replaced(good, "version: 1.0.0\n", ""),
       "1:1: error: version: is missing: write it as version: 1.0.0"},
      {kHead,
       "1:1: error: services: is missing: write it as services: [{name: web, image: nginx}]"},
      {WithHead("services: []\n"), "5:11: error: services: an app has at least one service"},
      {WithHead("services: {web: {image: a}}\n"),
       "5:11: error: services: must be a list, such as [{name: web, image: nginx}]; it is a "
       "mapping"},
      {good + "icon: /etc/passwd\n",
       "8:7: error: icon: must be a path inside the app's folder: relative, without .., not "
       "\"/etc/passwd\""},
      {good + "icon: a/../../b\n",
       "8:7: error: icon: must be a path inside the app's folder: relative, without .., not "
       "\"a/../../b\""},
      {good + "runtime: {mode: composed}\n",
       "8:17: error: runtime.mode: must be native or compose, not \"composed\"; did you mean "
       "\"compose\"?"},
      {WithHead("runtime:\n  mode: compose\n"),
       "6:3: error: runtime.composeFile: is missing: write it as composeFile: compose.yaml"},
      {good + "security: {network: \"true\"}\n",
       "8:21: error: security.network: must be true or false, without quotes, not \"true\""},
      {good + "security: {network: yes}\n",
       "8:21: error: security.network: must be true or false, without quotes, not \"yes\""},
      {good + "ui: [showBackButton]\n",
       "8:5: error: ui: must be a mapping, such as {showBackButton: true}; it is a list"},
      {good + "publisher: {name: a, signing: {scheme: rsa}}\n",
       "8:40: error: publisher.signing.scheme: must be ed25519, not \"rsa\""},
      {good + "publisher: {signing: {publicKeyFile: ../k}}\n",
       "8:38: error: publisher.signing.publicKeyFile: must be a path inside the app's folder: "
       "relative, "
       "without .., not \"../k\""},
      {"- a\n", "1:1: error: must be a mapping, such as {kind: vibe.app/v1}; it is a list"},
      {"just text", "1:1: error: must be a mapping, such as {kind: vibe.app/v1}; it is a text"},
  });
}

TEST(Errors, OfUnknownKeys) {
  ExpectReports({
      {WithService("    prots: []\n"),
       "8:5: error: services[0].prots: unknown key \"prots\"; did you mean \"ports\"?"},
      {WithService("    working_dir: /a\n"),
       "8:5: error: services[0].working_dir: unknown key \"working_dir\"; did you mean "
       "\"workingDir\"?"},
      {WithService("    dependsOns: []\n"),
       "8:5: error: services[0].dependsOns: unknown key \"dependsOns\"; did you mean "
       "\"dependsOn\"?"},
      {WithService("    environment: {}\n"),
       "8:5: error: services[0].environment: unknown key \"environment\": a service's environment "
       "is "
       "`env`"},
      {WithService("network: true\n"),
       "8:1: error: network: unknown key \"network\": write `security: {network: true}`"},
      {WithService("    ports: [{container: 1, xyzzy: 2}]\n"),
       "8:28: error: services[0].ports[0].xyzzy: unknown key \"xyzzy\"; known are container, "
       "hostExposure, protocol"},
      {WithService("ui: {\"a\\u009b\\nb\": true}\n"),
       "8:6: error: ui.\"a\\u009b\\nb\": unknown key \"a\\u009b\\nb\"; known are showBackButton, "
       "showForwardButton, showReloadButton, showHomeButton"},
      {WithService("ver sion: 1\n"),
       "8:1: error: \"ver sion\": unknown key \"ver sion\"; did you mean \"version\"?"},
  });
}

TEST(Errors, OfAService) {
  const std::string long_text(5000, 'x');
  ExpectReports({
      {WithHead("services:\n  - image: a\n"),
       "6:5: error: services[0].name: is missing: write it as name: web"},
      {WithHead("services:\n  - name: web\n"),
       "6:5: error: services[0].image: is missing: write it as image: postgres:15"},
      {WithHead("services:\n  - name: Web_1\n    image: a\n"),
       "6:11: error: services[0].name: a service's name is made of a-z, 0-9 and -, not \"Web_1\""},
      {WithHead("services:\n  - name: a\n    image: \"a b\"\n"),
       "7:12: error: services[0].image: an image is registry/name:tag or name@sha256:… without "
       "spaces, "
       "not \"a b\""},
      {WithHead("services:\n  - name: a\n    image: https://a/b\n"),
       "7:12: error: services[0].image: leave out the scheme: write registry/name:tag"},
      {WithHead("services:\n  - name: a\n    image: \"a\\tb\"\n"),
       "7:12: error: services[0].image: must not hold control characters or line ends"},
      {WithHead("services:\n  - name: a\n    image: " + std::string(513, 'a') + "\n"),
       "7:12: error: services[0].image: has 513 characters; at most 512 are allowed"},
      {Key("command", "node server.js"),
       "8:14: error: services[0].command: must be a list, such as [\"node\", \"server.js\"]; it is "
       "a text"},
      {Key("command", "[a, [b]]"),
       "8:18: error: services[0].command[1]: must be a text; it is a list"},
      {Key("command", "[" + std::string(2049, 'a') + "]"),
       "8:15: error: services[0].command[0]: has 2049 characters; at most 2048 are allowed"},
      {Key("entrypoint", "[\"a\\0b\"]"),
       "8:18: error: services[0].entrypoint[0]: must not hold a zero byte"},
      {Key("env", "[A=B]"),
       "8:10: error: services[0].env: must be a mapping, such as {PORT: \"8080\"}; it is a list"},
      {Key("env", "{1A: x}"),
       "8:11: error: services[0].env.1A: a variable's name is made of A-Z, 0-9 and _, and starts "
       "with no "
       "digit; not \"1A\""},
      {Key("env", "{A: }"),
       "8:11: error: services[0].env.A: has no value: write \"\" for an empty one"},
      {Key("env", "{A: " + long_text + "}"),
       "8:14: error: services[0].env.A: has 5000 characters; at most 4096 are allowed"},
      {Key("ports", "[8080]"),
       "8:13: error: services[0].ports[0]: write {container: 8080}; the host's port is chosen with "
       "`vibe open --port SERVICE:HOSTPORT`"},
      {Key("ports", "[\"8080:80\"]"),
       "8:13: error: services[0].ports[0]: write {container: 80}; the host's port is chosen with "
       "`vibe open --port SERVICE:8080`"},
      {Key("ports", "[127.0.0.1:5353:53/udp]"),
       "8:13: error: services[0].ports[0]: write {container: 53, protocol: udp}; the host's port "
       "is "
       "chosen with `vibe open --port SERVICE:5353`"},
      {Key("ports", "[80000:3000/tcp, 3000-3005, \"a:\\nb\", []]"),
       "8:13: error: services[0].ports[0]: write {container: 3000}; the host's port is chosen with "
       "`vibe open --port SERVICE:HOSTPORT`\n"
       "8:29: error: services[0].ports[1]: write {container: 8080}; the host's port is chosen with "
       "`vibe open --port SERVICE:HOSTPORT`\n"
       "8:40: error: services[0].ports[2]: write {container: 8080}; the host's port is chosen with "
       "`vibe open --port SERVICE:HOSTPORT`\n"
       "8:49: error: services[0].ports[3]: must be a mapping, such as {container: 8080}; it is a "
       "list"},
      {Key("ports", "[{container: 0}]"),
       "8:25: error: services[0].ports[0].container: must be a whole number from 1 to 65535, not "
       "\"0\""},
      {Key("ports", "[{container: 65536}]"),
       "8:25: error: services[0].ports[0].container: must be a whole number from 1 to 65535, not "
       "\"65536\""},
      {Key("ports", "[{container: \"80\"}]"),
       "8:25: error: services[0].ports[0].container: must be a whole number from 1 to 65535: write "
       "80 "
       "without quotes"},
      {Key("ports", "[{container: 080}]"),
       "8:25: error: services[0].ports[0].container: must be a whole number from 1 to 65535, not "
       "\"080\""},
      {Key("ports", "[{container: 80, hostExposure: nope}]"),
       "8:43: error: services[0].ports[0].hostExposure: must be auto or none, not \"nope\"; did "
       "you mean "
       "\"none\"?"},
      {Key("ports", "[{container: 80, protocol: sctp}]"),
       "8:39: error: services[0].ports[0].protocol: must be tcp or udp, not \"sctp\""},
      {Key("ports", "[{container: 80}, {container: 80, protocol: udp}, {container: 80}]"),
       "8:62: error: services[0].ports[2]: port 80/tcp is listed twice; keep one"},
      {Key("workingDir", "srv"),
       "8:17: error: services[0].workingDir: must be an absolute path without .., not \"srv\""},
      {Key("user", "-x"),
       "8:11: error: services[0].user: must be a user, or user:group, by name or number, not "
       "\"-x\""},
      {Key("restart", "unless-stopped"),
       "8:14: error: services[0].restart: must be no or on-failure or always; unless-stopped is "
       "`always` "
       "here, as a stopped app stays stopped"},
      {Key("restart", "on-fail"),
       "8:14: error: services[0].restart: must be no or on-failure or always, not \"on-fail\"; did "
       "you "
       "mean \"on-failure\"?"},
      {Key("resources", "{cpus: 0}"),
       "8:23: error: services[0].resources.cpus: must be a number from 0.01 to 1024, such as 1.5, "
       "not "
       "\"0\""},
      {Key("resources", "{memory: 1m}"),
       "8:25: error: services[0].resources.memory: must be a size from 6m on, such as 256m or "
       "1.5g, not "
       "\"1m\""},
      {Key("resources", "{memory: lots}"),
       "8:25: error: services[0].resources.memory: must be a size from 6m on, such as 256m or "
       "1.5g, not "
       "\"lots\""},
  });
}

TEST(Errors, OfAHealthcheck) {
  const auto check = [](const std::string& keys) { return Key("healthcheck", "{" + keys + "}"); };
  ExpectReports({
      {check("interval: 1s"),
       "8:18: error: services[0].healthcheck.test: is missing: write it as test: [\"CMD\", "
       "\"pg_isready\"]"},
      {check("test: []"),
       "8:25: error: services[0].healthcheck.test: must not be empty: write it as [\"CMD\", "
       "\"pg_isready\"]"},
      {check("test: [curl, x]"),
       "8:25: error: services[0].healthcheck.test: a list starts with CMD, CMD-SHELL or NONE, not "
       "\"curl\": such as [\"CMD\", \"pg_isready\"]"},
      {check("test: [CMD]"),
       "8:25: error: services[0].healthcheck.test: CMD needs a program to run, such as [\"CMD\", "
       "\"pg_isready\"]"},
      {check("test: [CMD-SHELL, a, b]"),
       "8:25: error: services[0].healthcheck.test: CMD-SHELL takes exactly one line for the shell"},
      {check("test: [NONE, a]"), "8:25: error: services[0].healthcheck.test: NONE stands alone"},
      {check("test: a, interval: 30"),
       "8:38: error: services[0].healthcheck.interval: must be a duration with a unit, such as "
       "500ms, 30s "
       "or 1m30s, not \"30\""},
      {check("test: a, timeout: 0s"),
       "8:37: error: services[0].healthcheck.timeout: must be more than 0 and at most 24h, not "
       "\"0s\""},
      {check("test: a, startPeriod: 25h"),
       "8:41: error: services[0].healthcheck.startPeriod: must be at most 24h, not \"25h\""},
      {check("test: a, retries: -1"),
       "8:37: error: services[0].healthcheck.retries: must be a whole number from 1 to 1000, not "
       "\"-1\""},
  });
}

TEST(Errors, OfHooks) {
  const auto hook = [](const std::string& keys) {
    return Key("hooks", "{preSave: {" + keys + "}}");
  };
  ExpectReports({
      {Key("hooks", "[a]"),
       "8:12: error: services[0].hooks: must be a mapping, such as {preSave: {command: "
       "[\"/app/flush\", \"--now\"]}}; it is a list"},
      {Key("hooks", "{presave: {command: [a]}}"),
       "8:13: error: services[0].hooks.presave: unknown key \"presave\"; did you mean "
       "\"preSave\"?"},
      {Key("hooks", "{postRestore: [a]}"),
       "8:26: error: services[0].hooks.postRestore: must be a mapping, such as {command: "
       "[\"/app/flush\", \"--now\"], timeout: 10s}; it is a list"},
      {hook("timeout: 1s"),
       "8:22: error: services[0].hooks.preSave.command: is missing: write it as command: "
       "[\"/app/flush\", \"--now\"]"},
      {hook("command: /app/flush"),
       "8:32: error: services[0].hooks.preSave.command: must be a list, such as "
       "[\"/app/flush\", \"--now\"]; it is a text"},
      {hook("command: []"),
       "8:32: error: services[0].hooks.preSave.command: needs a program to run, such as "
       "[\"/app/flush\", \"--now\"]"},
      {hook("command: [\"\", a]"),
       "8:32: error: services[0].hooks.preSave.command: needs a program to run, such as "
       "[\"/app/flush\", \"--now\"]"},
      {hook("command: [a, \"b\\0\"]"),
       "8:36: error: services[0].hooks.preSave.command[1]: must not hold a zero byte"},
      {hook("command: [a], timeout: 10"),
       "8:46: error: services[0].hooks.preSave.timeout: must be a duration with a unit, such as "
       "500ms, 30s or 1m30s, not \"10\""},
      {hook("command: [a], timeout: 0s"),
       "8:46: error: services[0].hooks.preSave.timeout: must be more than 0 and at most 10m, not "
       "\"0s\""},
      {hook("command: [a], timeout: 601s"),
       "8:46: error: services[0].hooks.preSave.timeout: must be more than 0 and at most 10m, not "
       "\"601s\""},
      {hook("command: [a], timeoutSeconds: 5"),
       "8:37: error: services[0].hooks.preSave.timeoutSeconds: unknown key \"timeoutSeconds\"; "
       "known are command, timeout"},
  });
}

TEST(Errors, OfMounts) {
  const std::string state = "state: {volumes: [{name: data}]}\n";
  ExpectReports({
      {Key("mounts", "[{source: /etc, target: /a}]"),
       "8:23: error: services[0].mounts[0].source: must name a volume of state.volumes, not "
       "\"/etc\": "
       "folders of the host cannot be mounted"},
      {Key("mounts", "[{source: .., target: /a}]"),
       "8:23: error: services[0].mounts[0].source: must name a volume of state.volumes, not "
       "\"..\""},
      {Key("mounts", "[{source: data, target: a}]") + state,
       "8:37: error: services[0].mounts[0].target: must be an absolute path below /, without .., "
       "not "
       "\"a\""},
      {Key("mounts", "[{source: data, target: /a/../b}]") + state,
       "8:37: error: services[0].mounts[0].target: must be an absolute path below /, without .., "
       "not "
       "\"/a/../b\""},
      {Key("mounts", "[{source: data, target: /proc//sys}]") + state,
       "8:37: error: services[0].mounts[0].target: nothing can be mounted at /proc/sys: the "
       "system's own "
       "files are there"},
      {Key("stateVolumes", "[data]") + state,
       "8:20: error: services[0].stateVolumes[0]: is written NAME:/absolute/path, without options, "
       "not "
       "\"data\""},
      {Key("stateVolumes", "[\"data:/a:ro\"]") + state,
       "8:20: error: services[0].stateVolumes[0]: is written NAME:/absolute/path, without options, "
       "not "
       "\"data:/a:ro\""},
      {Key("stateVolumes", "[\"data:/a\", \"data:/a/\"]") + state,
       "8:31: error: services[0].stateVolumes[1]: two things are mounted at /a; keep one"},
      {Key("tmpfs", "[/tmp, /tmp]"),
       "8:19: error: services[0].tmpfs[1]: two things are mounted at /tmp; keep one"},
      {Key("tmpfs", "/tmp"),
       "8:12: error: services[0].tmpfs: must be a list, such as [/tmp]; it is a text"},
      {Key("stateVolumes", "[\"dta:/a\"]") + state,
       "8:20: error: services[0].stateVolumes[0]: the volume \"dta\" is not declared; did you mean "
       "\"data\"?"},
      {Key("mounts", "[{source: \"state:up\", target: /a}]") + state,
       "8:23: error: services[0].mounts[0].source: the volume \"up\" is not declared: add `- name: "
       "up` "
       "to state.volumes"},
  });
}

TEST(Errors, OfStateAndSecrets) {
  const std::string good = WithService("");
  ExpectReports({
      {good + "state: {autosaveDebounceSeconds: soon}\n",
       "8:34: error: state.autosaveDebounceSeconds: must be a whole number from 0 to 86400, not "
       "\"soon\""},
      {good + "state: {retention: {maxSnapshots: 0}}\n",
       "8:35: error: state.retention.maxSnapshots: must be a whole number from 1 to 10000, not "
       "\"0\""},
      {good + "state: {volumes: [{name: a/b}]}\n",
       "8:26: error: state.volumes[0].name: a volume's name is made of letters, digits and _ . -, "
       "and "
       "starts with a letter or digit; not \"a/b\""},
      {good + "state: {volumes: [{name: a}, {name: a}]}\n",
       "8:37: error: state.volumes[1].name: two volumes are called \"a\""},
      {good + "state: {volumes: [{name: a, consistency: mysql}]}\n",
       "8:42: error: state.volumes[0].consistency: must be generic or sqlite or postgres, not "
       "\"mysql\""},
      {good + "secrets: [{name: A}, {name: A}]\n",
       "8:29: error: secrets[1].name: two secrets are called \"A\""},
      {good + "secrets: [{required: true}]\n",
       "8:11: error: secrets[0].name: is missing: write it as name: API_KEY"},
      {good + "secrets: [A]\n",
       "8:11: error: secrets[0]: must be a mapping, such as {name: API_KEY, required: true}; it is "
       "a "
       "text"},
  });
}

TEST(Errors, OfAliases) {
  const auto refused = [](const std::string& alias) {
    return "8:15: error: services[0].aliases[0]: must be a host name in lower case, such as "
           "db.internal, not \"" +
           alias + "\"";
  };
  const auto services = [](const std::string& first, const std::string& second) {
    return WithHead("services:\n  - {name: web, image: x, aliases: [" + first +
                    "]}\n  - {name: db, image: x, aliases: [" + second + "]}\n");
  };
  std::string many;
  for (int i = 0; i <= 20; ++i) {
    many += "a" + std::to_string(i) + ", ";
  }
  ExpectReports({
      {Key("aliases", "[WWW]"), refused("WWW")},
      {Key("aliases", "[www-]"), refused("www-")},
      {Key("aliases", "[10.64.0.2]"), refused("10.64.0.2")},
      {Key("aliases", "[\"a b\"]"), refused("a b")},
      {Key("aliases", "[\"a\\n127.0.0.1 bank.example\"]"),
       "8:15: error: services[0].aliases[0]: must not hold control characters or line ends"},
      {Key("aliases", "[" + std::string(254, 'a') + "]"),
       "8:15: error: services[0].aliases[0]: has 254 characters; at most 253 are allowed"},
      {Key("aliases", "[" + many + "]"),
       "8:105: error: services[0].aliases: has 21 items; at most 20 are allowed"},
      {Key("aliases", "www"),
       "8:14: error: services[0].aliases: must be a list, such as [database]; it is a text"},
      {Key("alias", "[www]"),
       "8:5: error: services[0].alias: unknown key \"alias\"; did you mean \"aliases\"?"},
      {Key("aliases", "[localhost]"),
       "8:15: error: services[0].aliases[0]: \"localhost\" means each service itself; take "
       "another name"},
      {Key("aliases", "[app.localhost]"),
       "8:15: error: services[0].aliases[0]: \"app.localhost\" means each service itself; take "
       "another name"},
      {services("db", ""), "6:37: error: services[0].aliases[0]: another service is called \"db\""},
      {services("", "web"),
       "7:36: error: services[1].aliases[0]: another service is called \"web\""},
      {services("a, b", "c, b"),
       "7:39: error: services[1].aliases[1]: \"b\" is an alias of the service web already"},
  });
}

TEST(Errors, OfDependencies) {
  const auto services = [](const std::string& list) { return WithHead("services:\n" + list); };
  const auto service = [](const std::string& name, const std::string& needs) {
    return "  - {name: " + name + ", image: x, dependsOn: [" + needs + "]}\n";
  };
  ExpectReports({
      {services(service("web", "bd") + service("db", "")),
       "6:39: error: services[0].dependsOn[0]: there is no service \"bd\"; did you mean \"db\"?"},
      {services(service("a", "a")),
       "6:37: error: services[0].dependsOn[0]: the services wait for each other in a circle: a -> "
       "a; take "
       "one of these dependencies out"},
      {services(service("front", "a") + service("a", "b") + service("b", "c") + service("c", "a")),
       "9:37: error: services[3].dependsOn[0]: the services wait for each other in a circle: a -> "
       "b -> c "
       "-> a; take one of these dependencies out"},
      {services(service("a", "b") + service("b", "a") + service("c", "d") + service("d", "c")),
       "7:37: error: services[1].dependsOn[0]: the services wait for each other in a circle: a -> "
       "b -> a; "
       "take one of these dependencies out\n"
       "9:37: error: services[3].dependsOn[0]: the services wait for each other in a circle: c -> "
       "d -> c; "
       "take one of these dependencies out"},
      {services(service("a", "") + service("a", "")),
       "7:12: error: services[1].name: two services are called \"a\""},
      {WithService("    dependsOn: [web]\n    dependOn: [web]\n"),
       "8:17: error: services[0].dependsOn[0]: the services wait for each other in a circle: web "
       "-> web; "
       "take one of these dependencies out\n"
       "9:15: error: services[0].dependOn: dependsOn and dependOn mean the same; keep dependsOn"},
  });
}

TEST(Errors, AreAllReportedInTheOrderOfTheFile) {
  EXPECT_EQ(
      Report("kind: vibe.app/v1\n"
             "nmae: x\n"
             "version: one\n"
             "services:\n"
             "  - name: web\n"
             "    image: nginx\n"
             "    prots: 1\n"
             "    env: {é: 1, b c: 2}\n"
             "    mounts: [{source: data}]\n"
             "secrets: none\n"),
      "1:1: error: id: is missing: write it as id: com.example.my-app\n"
      "1:1: error: name: is missing: write it as name: My App\n"
      "2:1: error: nmae: unknown key \"nmae\"; did you mean \"name\"?\n"
      "3:10: error: version: must be a version of three numbers such as 1.4.0 or 2.0.0-rc.1 "
      "(SemVer "
      "2.0.0); it is \"one\"\n"
      "7:5: error: services[0].prots: unknown key \"prots\"; did you mean \"ports\"?\n"
      "8:11: error: services[0].env.\"é\": a variable's name is made of A-Z, 0-9 and _, and starts "
      "with no digit; not \"é\"\n"
      "8:17: error: services[0].env.\"b c\": a variable's name is made of A-Z, 0-9 and _, and "
      "starts "
      "with no digit; not \"b c\"\n"
      "9:14: error: services[0].mounts[0].target: is missing: write it as target: /data\n"
      "10:10: error: secrets: must be a list, such as [{name: API_KEY}]; it is a text\n");
}

// One item more than allowed is reported at that item.
TEST(Errors, OfTooMany) {
  std::string services;
  std::string variables;
  std::string mounts;
  for (int i = 0; i < 21; ++i) {
    services += "  - {name: s" + std::to_string(i) + ", image: x}\n";
  }
  for (int i = 0; i < 101; ++i) {
    variables += "      V" + std::to_string(i) + ": x\n";
  }
  for (int i = 0; i < 26; ++i) {
    mounts += "      - {source: data, target: /a" + std::to_string(i) + "}\n";
  }
  std::string volumes;
  for (int i = 0; i < 25; ++i) {
    volumes += "      - data:/b" + std::to_string(i) + "\n";
  }
  const std::string state = "state: {volumes: [{name: data}]}\n";
  ExpectReports({
      {WithHead("services:\n" + services),
       "26:5: error: services: has 21 items; at most 20 are allowed"},
      {WithService("    env:\n" + variables),
       "109:7: error: services[0].env: has 101 variables; at most 100 are allowed"},
      {WithService("    mounts:\n" + mounts + "    stateVolumes:\n" + volumes) + state,
       "60:9: error: services[0].stateVolumes: has 25 items; at most 24 are allowed"},
  });
}

}  // namespace
}  // namespace vibe::manifest
