#include "host/app_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/status.h"
#include "base/unix_socket.h"
#include "host/ignore_rules.h"
#include "temp_dir.h"

namespace vibe::host {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kManifest[] =
    "kind: vibe.app/v1\nid: com.example.notes\nname: Notes\nversion: 1.0.0\n"
    "services:\n  - name: web\n    image: nginx\n";

std::vector<std::string> Paths(const AppFolder& app) {
  std::vector<std::string> paths;
  for (const AppFolder::File& file : app.files()) {
    paths.push_back(file.path);
  }
  return paths;
}

class AppFolderTest : public ::testing::Test {
 protected:
  AppFolderTest() { dir_.Write("app/vibe.yaml", kManifest); }

  void Write(const std::string& name, const std::string& content = "x") {
    dir_.Write("app/" + name, content);
  }
  std::filesystem::path Root() const { return dir_.path() / "app"; }
  AppFolder Open() const {
    absl::StatusOr<AppFolder> app = AppFolder::Open(Root());
    EXPECT_TRUE(app.ok()) << app.status();
    return *std::move(app);
  }
  void ExpectRefused(const std::string& name) const {
    AppFolder app = Open();
    const absl::Status status = app.List();
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidPackage) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }

  const TempDir dir_;
};

TEST_F(AppFolderTest, HasTheAppsFilesAndNotWhatIsLeftOut) {
  for (const char* name :
       {"server.js", "lib/a.js", "images/db/oci-layout", "images/db/blobs/sha256/00", ".git/config",
        ".env", "node_modules/x/index.js", "lib/node_modules/y.js", "target/debug/app",
        "old.vibeapp", "key.sig", "target.txt", "lib/node_modules.txt"}) {
    Write(name);
  }
  AppFolder app = Open();
  ASSERT_TRUE(app.List().ok());
  EXPECT_THAT(Paths(app),
              ElementsAre("images/db/blobs/sha256/00", "images/db/oci-layout", "lib/a.js",
                          "lib/node_modules.txt", "server.js", "target.txt", "vibe.yaml"));
}

TEST_F(AppFolderTest, TheIgnoreFileLeavesOutMoreButNeverTheManifest) {
  Write(".vibeignore", "# comment\n*.log\nbuild/\n/docs/*.md\n*.yaml\n");
  for (const char* name : {"a.log", "lib/b.log", "build/x", "lib/build/y", "build.txt", "docs/a.md",
                           "lib/docs/a.md", "docs/sub/a.md"}) {
    Write(name);
  }
  AppFolder app = Open();
  ASSERT_TRUE(app.List().ok());
  EXPECT_THAT(Paths(app), ElementsAre("build.txt", "docs/sub/a.md", "lib/docs/a.md", "vibe.yaml"));
}

TEST_F(AppFolderTest, TheIndexHasTheDigestsOfTheFiles) {
  Write("run.sh", "#!/bin/sh\n");
  Write("empty", "");
  ::chmod((Root() / "run.sh").c_str(), 0755);
  AppFolder app = Open();
  ASSERT_TRUE(app.List().ok());
  const auto index = app.Index([](uint64_t, uint64_t) { return absl::OkStatus(); });
  ASSERT_TRUE(index.ok()) << index.status();
  ASSERT_EQ(index->files_size(), 3);
  EXPECT_EQ(index->files(0).sha256(), Sha256Raw(""));
  EXPECT_EQ(index->files(1).sha256(), Sha256Raw("#!/bin/sh\n"));
  EXPECT_TRUE(index->files(1).executable());
  EXPECT_FALSE(index->files(2).executable());

  FileReader reader(app.files());
  const auto bytes = reader.Next();
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, std::string("#!/bin/sh\n") + kManifest);
  EXPECT_EQ(*reader.Next(), "");
}

TEST_F(AppFolderTest, LargeFilesComeInPiecesOfAMebibyte) {
  Write("a", std::string((2 << 20) + 5, 'a'));
  AppFolder app = Open();
  ASSERT_TRUE(app.List().ok());
  FileReader reader(app.files());
  size_t total = 0;
  for (auto chunk = reader.Next(); chunk.ok() && !chunk->empty(); chunk = reader.Next()) {
    EXPECT_LE(chunk->size(), size_t{1} << 20);
    total += chunk->size();
  }
  EXPECT_EQ(total, (2 << 20) + 5 + sizeof kManifest - 1);
}

TEST_F(AppFolderTest, AFileThatChangesMeanwhileIsAnErrorThatNamesIt) {
  Write("data.db", "before");
  AppFolder app = Open();
  ASSERT_TRUE(app.List().ok());
  Write("data.db", "after, and longer");
  FileReader reader(app.files());
  const auto bytes = reader.Next();
  EXPECT_EQ(bytes.status().code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(bytes.status().message()), HasSubstr("data.db"));
}

TEST_F(AppFolderTest, AManifestThatChangesAfterItWasCheckedIsNotPackaged) {
  AppFolder app = Open();
  Write("vibe.yaml", std::string(kManifest) + "icon: x.png\n");
  ASSERT_TRUE(app.List().ok());
  const auto index = app.Index([](uint64_t, uint64_t) { return absl::OkStatus(); });
  EXPECT_EQ(index.status().code(), absl::StatusCode::kAborted);
}

TEST_F(AppFolderTest, ALinkInsideTheFolderIsTheFileThatItMeans) {
  Write("lib/real.js", "real");
  std::filesystem::create_symlink("lib/real.js", Root() / "link.js");
  AppFolder app = Open();
  ASSERT_TRUE(app.List().ok());
  EXPECT_THAT(Paths(app), ElementsAre("lib/real.js", "link.js", "vibe.yaml"));
  EXPECT_EQ(app.files()[1].size, 4u);
}

TEST_F(AppFolderTest, LinksThatLeadOutAreRefused) {
  dir_.Write("secret", "s");
  std::filesystem::create_symlink("../secret", Root() / "leak");
  ExpectRefused("leak");
}

TEST_F(AppFolderTest, ALinkToAFolderWithTheSamePrefixLeadsOut) {
  dir_.Write("app-secret/file", "s");
  std::filesystem::create_symlink("../app-secret/file", Root() / "leak");
  ExpectRefused("leak");
}

TEST_F(AppFolderTest, LinksToFoldersAndToNothingAreRefused) {
  std::filesystem::create_symlink(".", Root() / "loop");
  ExpectRefused("loop");
  std::filesystem::remove(Root() / "loop");
  std::filesystem::create_symlink("nowhere", Root() / "dangling");
  ExpectRefused("dangling");
}

TEST_F(AppFolderTest, SocketsAndFifosAreRefused) {
  ASSERT_EQ(::mkfifo((Root() / "pipe").c_str(), 0600), 0);
  ExpectRefused("pipe");
  std::filesystem::remove(Root() / "pipe");
  const auto socket = ListenUnix(Root() / "sock");
  ASSERT_TRUE(socket.ok());
  ExpectRefused("sock");
}

TEST_F(AppFolderTest, ANameThatIsNotUtf8IsRefused) {
  Write("caf\xe9.txt");
  ExpectRefused("is too long or not UTF-8");
}

TEST_F(AppFolderTest, AFolderOfManyGibibytesIsRefusedBeforeItIsRead) {
  Write("huge");
  ASSERT_EQ(::truncate((Root() / "huge").c_str(), off_t{9} << 30), 0);
  ExpectRefused("huge");
}

TEST_F(AppFolderTest, OpensByTheManifestsPathToo) {
  const auto app = AppFolder::Open(Root() / "vibe.yaml");
  ASSERT_TRUE(app.ok()) << app.status();
  EXPECT_EQ(app->root(), Root());
  EXPECT_EQ(app->manifest().id, "com.example.notes");
}

TEST_F(AppFolderTest, SaysWhatIsWrongWithAPath) {
  EXPECT_EQ(ReasonOf(AppFolder::Open(dir_.path()).status()), Reason::kNotFound);
  EXPECT_EQ(ReasonOf(AppFolder::Open(dir_.path() / "nope").status()), Reason::kNotFound);
  EXPECT_FALSE(AppFolder::Open("relative").ok());
  dir_.Write("x.vibeapp", "PK");
  EXPECT_THAT(std::string(AppFolder::Open(dir_.path() / "x.vibeapp").status().message()),
              HasSubstr("opens folders"));
  Write("vibe.yaml", "kind: vibe.app/v1\n");
  EXPECT_EQ(ReasonOf(AppFolder::Open(Root()).status()), Reason::kInvalidManifest);
}

TEST(Glob, MatchesAsTheFormatSays) {
  EXPECT_TRUE(GlobMatches("*.log", "a.log"));
  EXPECT_TRUE(GlobMatches("a*b*c", "aXXbYYc"));
  EXPECT_TRUE(GlobMatches("?", "x"));
  EXPECT_TRUE(GlobMatches("docs/*", "docs/a"));
  EXPECT_FALSE(GlobMatches("docs/*", "docs/a/b"));
  EXPECT_FALSE(GlobMatches("?", "/"));
  EXPECT_FALSE(GlobMatches("*.log", "a.logs"));
  EXPECT_FALSE(GlobMatches("", "a"));
}

TEST(Glob, AHostilePatternTakesNoTime) {
  std::string pattern;
  for (int i = 0; i < 500; ++i) {
    pattern += "*a";
  }
  EXPECT_FALSE(GlobMatches(pattern + "b", std::string(1000, 'a')));
}

TEST(IgnoreRules, TooManyPatternsAreRefused) {
  std::string text;
  for (int i = 0; i < 1001; ++i) {
    text += "a" + std::to_string(i) + "\n";
  }
  EXPECT_FALSE(IgnoreRules::Parse(text).ok());
}

}  // namespace
}  // namespace vibe::host
