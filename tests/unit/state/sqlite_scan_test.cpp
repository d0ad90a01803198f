#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/random.h"
#include "base/unique_fd.h"
#include "state/sqlite_files.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SqliteScanTest : public ::testing::Test {
 protected:
  SqliteScanTest() : root_(fs::temp_directory_path() / ("vibe-scan-" + RandomHex(8))) {
    fs::create_directories(root_);
  }
  ~SqliteScanTest() override { fs::remove_all(root_); }

  void Database(const fs::path& path) {
    fs::create_directories((root_ / path).parent_path());
    std::string content("SQLite format 3\0", 16);
    content.resize(4096, 'x');
    std::ofstream(root_ / path, std::ios::binary) << content;
  }

  std::vector<std::string> Found(const SqliteScanLimits& limits = {}) {
    const UniqueFd fd(::open(root_.c_str(), O_RDONLY | O_DIRECTORY));
    const SqliteScan scan = FindSqliteFiles(fd.get(), limits).value();
    complete_ = scan.complete;
    std::vector<std::string> paths;
    for (const SqliteFile& file : scan.files) {
      paths.push_back(file.path);
    }
    return paths;
  }

  const fs::path root_;
  bool complete_ = true;
};

TEST_F(SqliteScanTest, DatabasesAreFoundByTheirHeaderAtAnyDepth) {
  Database("app.db");
  Database("a/b/c/no-suffix");
  Database(std::string("not-utf8-\xff"));
  std::ofstream(root_ / "x.db") << "not a database at all, but long enough to be one"
                                << std::string(1000, ' ');
  std::ofstream(root_ / "short.sqlite").write("SQLite format 3\0", 16);
  EXPECT_THAT(Found(), ElementsAre("a/b/c/no-suffix", "app.db", std::string("not-utf8-\xff")));
  EXPECT_TRUE(complete_);
}

TEST_F(SqliteScanTest, SaysWhetherThereIsAWal) {
  Database("app.db");
  std::ofstream(root_ / "app.db-wal") << "12345";
  const UniqueFd fd(::open(root_.c_str(), O_RDONLY | O_DIRECTORY));
  SqliteScan scan = FindSqliteFiles(fd.get()).value();
  ASSERT_EQ(scan.files.size(), 1u);
  EXPECT_EQ(scan.files[0].wal_size, 5u);
  fs::remove(root_ / "app.db-wal");
  fs::create_symlink("/etc/passwd", root_ / "app.db-wal");
  scan = FindSqliteFiles(fd.get()).value();
  EXPECT_EQ(scan.files[0].wal_size, 0u) << "a symlink is no WAL";
}

TEST_F(SqliteScanTest, SymlinksAndFifosLeadNowhere) {
  fs::create_directories(root_ / "real");
  const fs::path outside = root_.string() + "-outside";
  fs::create_directories(outside);
  Database("real/app.db");
  fs::copy_file(root_ / "real/app.db", outside / "secret.db");
  fs::create_directory_symlink(outside, root_ / "folder");
  fs::create_symlink(outside / "secret.db", root_ / "link.db");
  ASSERT_EQ(::mkfifo((root_ / "fifo.db").c_str(), 0600), 0);
  EXPECT_THAT(Found(), ElementsAre("real/app.db"));
  fs::remove_all(outside);
}

TEST_F(SqliteScanTest, LimitsEndItAndItSaysSo) {
  Database("1.db");
  Database("2.db");
  Database("a/3.db");
  EXPECT_EQ(Found({.max_files = 1}).size(), 1u);
  EXPECT_FALSE(complete_);
  EXPECT_EQ(Found({.max_depth = 1}).size(), 2u);
  EXPECT_FALSE(complete_);
  EXPECT_THAT(Found({.max_entries = 1}).size(), 1u);
  EXPECT_FALSE(complete_);
}

}  // namespace
}  // namespace vibe::state
