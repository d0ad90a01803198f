#include "state/digest.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "base/unique_fd.h"
#include "state/background_thread.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Digest : public ::testing::Test {
 protected:
  Digest() : root_(fs::temp_directory_path() / ("vibe-digest-" + RandomHex(8))) {
    fs::create_directories(root_);
  }
  ~Digest() override { fs::remove_all(root_); }

  fs::path Folder(const std::string& name) {
    const fs::path path = root_ / name;
    fs::create_directories(path);
    return path;
  }

  static void Write(const fs::path& path, absl::string_view content) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
  }

  static absl::StatusOr<TreeDigest> Of(const fs::path& path, const DigestLimits& limits = {}) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY));
    return DigestTree(fd.get(), std::stop_token(), limits);
  }

  static std::string Text(const fs::path& path) { return Of(path).value().digest; }

  const fs::path root_;
};

// A tree with one of everything.
void Fill(const fs::path& root) {
  std::ofstream(root / "file") << "content";
  fs::create_directories(root / "folder/empty");
  std::ofstream(root / "folder/other") << "";
  fs::create_symlink("folder/other", root / "link");
  fs::create_hard_link(root / "file", root / "folder/hard");
  std::ofstream(root / std::string("not-utf8-\xff\xfe")) << "x";
  ::setxattr((root / "file").c_str(), "user.colour", "red", 3, 0);
  ::chmod((root / "folder").c_str(), 0750);
}

TEST_F(Digest, EqualTreesHaveEqualDigestsInAnyOrderOfTheirMaking) {
  const fs::path a = Folder("a");
  const fs::path b = Folder("b");
  Fill(a);
  ::mkdir((b / "zzz").c_str(), 0755);
  Fill(b);
  ::rmdir((b / "zzz").c_str());
  EXPECT_EQ(Text(a), Text(b));
  EXPECT_EQ(Of(a)->size_bytes, 8u) << "a hard link counts once";
  EXPECT_EQ(Of(a)->entries, 7u);
}

TEST_F(Digest, EveryChangeShows) {
  const std::vector<std::pair<const char*, std::function<void(const fs::path&)>>> changes = {
      {"content", [](const fs::path& p) { std::ofstream(p / "file") << "Content"; }},
      {"name", [](const fs::path& p) { fs::rename(p / "file", p / "fil"); }},
      {"mode", [](const fs::path& p) { ::chmod((p / "file").c_str(), 0600); }},
      {"set-uid", [](const fs::path& p) { ::chmod((p / "file").c_str(), 04644); }},
      {"owner", [](const fs::path& p) { EXPECT_EQ(::lchown((p / "link").c_str(), 5, -1), 0); }},
      {"group", [](const fs::path& p) { EXPECT_EQ(::chown((p / "folder").c_str(), -1, 5), 0); }},
      {"xattr",
       [](const fs::path& p) { ::setxattr((p / "file").c_str(), "user.colour", "blu", 3, 0); }},
      {"xattr of the root", [](const fs::path& p) { ::setxattr(p.c_str(), "user.x", "", 0, 0); }},
      {"mode of the root", [](const fs::path& p) { ::chmod(p.c_str(), 0700); }},
      {"symlink",
       [](const fs::path& p) {
         fs::remove(p / "link");
         fs::create_symlink("file", p / "link");
       }},
      {"hard link broken",
       [](const fs::path& p) {
         fs::remove(p / "folder/hard");
         fs::copy_file(p / "file", p / "folder/hard");
         ::setxattr((p / "folder/hard").c_str(), "user.colour", "red", 3, 0);
       }},
      {"empty folder gone", [](const fs::path& p) { fs::remove(p / "folder/empty"); }},
      {"moved up", [](const fs::path& p) { fs::rename(p / "folder/empty", p / "folder2"); }},
      {"longer by a zero", [](const fs::path& p) { fs::resize_file(p / "folder/other", 1); }},
      {"device",
       [](const fs::path& p) {
         EXPECT_EQ(::mknod((p / "folder/null").c_str(), S_IFCHR | 0600, 0), 0);
       }},
  };
  const fs::path plain = Folder("plain");
  Fill(plain);
  std::set<std::string> seen = {Text(plain)};
  for (const auto& [name, change] : changes) {
    const fs::path path = Folder(name);
    Fill(path);
    change(path);
    EXPECT_TRUE(seen.insert(Text(path)).second) << name << " was not seen";
  }
}

TEST_F(Digest, TimesDoNotCount) {
  const fs::path a = Folder("a");
  Fill(a);
  const std::string before = Text(a);
  const timespec times[2] = {{1, 0}, {1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (a / "file").c_str(), times, 0), 0);
  EXPECT_EQ(Text(a), before);
}

TEST_F(Digest, HolesAndWrittenZerosAreTheSame) {
  const fs::path a = Folder("a");
  const fs::path b = Folder("b");
  Write(a / "f", std::string(300'000, '\0') + "end");
  Write(b / "f", "");
  fs::resize_file(b / "f", 300'000);
  std::ofstream(b / "f", std::ios::app) << "end";
  EXPECT_EQ(Text(a), Text(b));
  fs::resize_file(b / "f", 300'004);
  EXPECT_NE(Text(a), Text(b));
}

TEST_F(Digest, WhereBytesStandCounts) {
  const fs::path a = Folder("a");
  const fs::path b = Folder("b");
  std::string content(200'000, '\0');
  content[70'000] = 'x';
  Write(a / "f", content);
  std::swap(content[70'000], content[140'000]);
  Write(b / "f", content);
  EXPECT_NE(Text(a), Text(b));
}

TEST_F(Digest, AHoleOfATebibyteCostsNothing) {
  const fs::path a = Folder("a");
  Write(a / "f", "start");
  ASSERT_EQ(::truncate((a / "f").c_str(), off_t{1} << 40), 0);
  const absl::Time begun = absl::Now();
  EXPECT_EQ(Of(a)->size_bytes, uint64_t{1} << 40);
  EXPECT_LT(absl::Now() - begun, absl::Seconds(5));
}

TEST_F(Digest, SocketsAndFifosAreLeftOut) {
  const fs::path a = Folder("a");
  Fill(a);
  const std::string before = Text(a);
  ASSERT_EQ(::mkfifo((a / "fifo").c_str(), 0600), 0);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  const std::string path = a / "socket";
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(Text(a), before);
  EXPECT_EQ(Of(a)->omitted, 2u);
  EXPECT_EQ(Of(a)->omitted_paths, (std::vector<std::string>{"fifo", "socket"}));
  EXPECT_EQ(Of(a, {.max_omitted_bytes = 100})->omitted_paths, std::nullopt) << "too many to name";
}

TEST_F(Digest, DeepTreesNeedNoDescriptorPerFolder) {
  const fs::path a = Folder("a");
  UniqueFd at(::open(a.c_str(), O_RDONLY | O_DIRECTORY));
  for (int i = 0; i < 2'000; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0755), 0);
    at.reset(::openat(at.get(), "d", O_RDONLY | O_DIRECTORY));
  }
  EXPECT_EQ(Of(a)->entries, 2'000u);
  const absl::Status limited = Of(a, {.max_depth = 100}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(limited)) << limited;
}

TEST_F(Digest, ManyEntriesHaveALimit) {
  const fs::path a = Folder("a");
  for (int i = 0; i < 20; ++i) {
    Write(a / std::to_string(i), "");
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Of(a, {.max_entries = 10}).status()));
}

TEST_F(Digest, ALargeFolderIsReadInPartsThatFitIntoMemory) {
  const fs::path root = Folder("root");
  for (int i = 0; i < 3'000; ++i) {
    const std::string name = std::to_string(i * 7919 % 3'000) + std::string(i % 90, 'x');
    if (i % 100 == 0) {
      Write(root / name / "inner", name);
    } else {
      Write(root / name, name);
    }
  }
  const std::string whole = Text(root);
  EXPECT_EQ(Of(root, {.name_memory = 0})->digest, whole);
  EXPECT_EQ(Of(root, {.name_memory = 100'000})->digest, whole);
  EXPECT_EQ(Of(root, {.name_memory = 0})->entries, 3'030u);
  EXPECT_TRUE(
      absl::IsResourceExhausted(Of(root, {.max_entries = 3'029, .name_memory = 0}).status()));
}

TEST_F(Digest, ManyLinkedFilesHaveALimit) {
  const fs::path root = Folder("root");
  for (const char* name : {"a", "b", "c"}) {
    Write(root / name, name);
    fs::create_hard_link(root / name, root / (std::string(name) + "2"));
  }
  EXPECT_TRUE(Of(root, {.max_linked = 3}).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Of(root, {.max_linked = 2}).status()));
}

TEST_F(Digest, CanBeStopped) {
  const fs::path a = Folder("a");
  Fill(a);
  std::stop_source source;
  source.request_stop();
  const UniqueFd fd(::open(a.c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_TRUE(absl::IsCancelled(DigestTree(fd.get(), source.get_token()).status()));
}

TEST_F(Digest, ReadsNothingWhileAnAppStandsStill) {
  const fs::path folder = Folder("a");
  Write(folder / "file", "content");
  std::optional<QuietDisk> quiet(std::in_place);
  std::future<std::string> digest = std::async(std::launch::async, [&] { return Text(folder); });
  EXPECT_EQ(digest.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  quiet.reset();
  EXPECT_EQ(digest.wait_for(std::chrono::seconds(1)), std::future_status::ready);
}

TEST_F(Digest, AStateHasOneForEachVolume) {
  const fs::path a = Folder("a");
  Write(a / "files/web/upper/x", "x");
  Write(a / "volumes/db/base", "data");
  Write(a / "volumes/notes/n.db", "note");
  const auto state = [&] {
    const UniqueFd fd(::open(a.c_str(), O_RDONLY | O_DIRECTORY));
    return DigestState(fd.get(), std::stop_token()).value();
  };
  const StateDigest before = state();
  ASSERT_EQ(before.volumes.size(), 2u);
  EXPECT_EQ(before.volumes.at("db").digest, Text(a / "volumes/db"));
  Write(a / "volumes/db/base", "Data");
  const StateDigest after = state();
  EXPECT_NE(before.digest, after.digest);
  EXPECT_NE(before.volumes.at("db").digest, after.volumes.at("db").digest);
  EXPECT_EQ(before.volumes.at("notes").digest, after.volumes.at("notes").digest);
  EXPECT_EQ(before.rest.digest, after.rest.digest);
  Write(a / "files/web/upper/x", "y");
  EXPECT_NE(state().rest.digest, after.rest.digest);
}

// Computed from docs/formats/state.md by another program, for files of root: it must be the same on
// every machine and in every later version.
TEST_F(Digest, IsTheOneOfTheFormat) {
  const fs::path a = Folder("a");
  Write(a / "f", "hello");
  ::chmod(a.c_str(), 0755);
  ::chmod((a / "f").c_str(), 0644);
  EXPECT_EQ(Text(a), "sha256:efbbffa4b7553483f213ed2acd437df31c945244ac7bb05c9f1f2582a489ed2f");
}

}  // namespace
}  // namespace vibe::state
