#include "state/sqlite_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "absl/time/clock.h"
#include "base/random.h"
#include "base/unique_fd.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// An app's connection, which does not clean up behind itself: as if it ran on.
class App {
 public:
  explicit App(const fs::path& path) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &database_), SQLITE_OK);
  }
  ~App() {
    sqlite3_db_config(database_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_close(database_);
  }
  void Run(const char* sql) {
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(database_, sql, nullptr, nullptr, &error), SQLITE_OK) << error;
  }

 private:
  sqlite3* database_ = nullptr;
};

class SqliteFilesTest : public ::testing::Test {
 protected:
  SqliteFilesTest() : root_(fs::temp_directory_path() / ("vibe-sqlite-" + RandomHex(8))) {
    fs::create_directories(root_);
    fd_.reset(::open(root_.c_str(), O_RDONLY | O_DIRECTORY));
  }
  ~SqliteFilesTest() override { fs::remove_all(root_); }

  void MakeWalDatabase(App& app) {
    app.Run("PRAGMA journal_mode=WAL; CREATE TABLE t(x); CREATE INDEX i ON t(x);");
    app.Run(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<1000) "
        "INSERT INTO t SELECT 'row ' || x FROM n");
  }

  // Without opening it: a process that closes a file loses all of its locks on it, and here the app
  // is this process.
  SqliteFile Only() {
    struct stat inode = {};
    EXPECT_EQ(::stat((root_ / "app.db").c_str(), &inode), 0);
    struct stat wal = {};
    const bool has_wal = ::lstat((root_ / "app.db-wal").c_str(), &wal) == 0;
    return {.path = "app.db",
            .size = static_cast<uint64_t>(inode.st_size),
            .uid = inode.st_uid,
            .gid = inode.st_gid,
            .wal_size = has_wal ? static_cast<uint64_t>(wal.st_size) : 0};
  }
  absl::Status Checkpoint(const SqliteFile& file) {
    return CheckpointSqliteFile(fd_.get(), file, absl::Milliseconds(50));
  }
  std::string Check(const SqliteFile& file, const SqliteWorkerOptions& options = {}) {
    return CheckSqliteFile(fd_.get(), file, options).value();
  }

  const fs::path root_;
  UniqueFd fd_;
};

TEST_F(SqliteFilesTest, TheWalGoesIntoTheDatabase) {
  App app(root_ / "app.db");
  MakeWalDatabase(app);
  const SqliteFile file = Only();
  ASSERT_GT(file.wal_size, 0u);
  EXPECT_TRUE(Checkpoint(file).ok()) << Checkpoint(file);
  EXPECT_EQ(Only().wal_size, 0u);
  app.Run("INSERT INTO t VALUES('the app writes on')");
  EXPECT_EQ(Check(Only()), "ok");
}

TEST_F(SqliteFilesTest, AReaderOfOldRowsLeavesTheWalAsItIs) {
  App app(root_ / "app.db");
  MakeWalDatabase(app);
  App reader(root_ / "app.db");
  reader.Run("BEGIN; SELECT * FROM t LIMIT 1;");
  app.Run("INSERT INTO t VALUES('new')");
  EXPECT_TRUE(absl::IsUnavailable(Checkpoint(Only()))) << Checkpoint(Only());
  EXPECT_GT(Only().wal_size, 0u);
}

TEST_F(SqliteFilesTest, AWriterHoldsItOffForNoLongerThanAsked) {
  App app(root_ / "app.db");
  MakeWalDatabase(app);
  const SqliteFile file = Only();
  app.Run("BEGIN IMMEDIATE; INSERT INTO t VALUES('unfinished')");
  const absl::Time begun = absl::Now();
  EXPECT_TRUE(absl::IsUnavailable(Checkpoint(file)));
  EXPECT_LT(absl::Now() - begun, absl::Seconds(5));
  app.Run("COMMIT");
  EXPECT_EQ(Check(Only()), "ok");
}

TEST_F(SqliteFilesTest, OwnersOtherThanRootKeepTheirFiles) {
  {
    App app(root_ / "app.db");
    MakeWalDatabase(app);
    for (const char* name : {"", "app.db", "app.db-wal", "app.db-shm"}) {
      ASSERT_EQ(::chown((root_ / name).c_str(), 1234, 1234), 0);
    }
    EXPECT_TRUE(Checkpoint(Only()).ok()) << Checkpoint(Only());
  }
  struct stat inode = {};
  ASSERT_EQ(::stat((root_ / "app.db").c_str(), &inode), 0);
  EXPECT_EQ(inode.st_uid, 1234u);
  EXPECT_EQ(Check(Only()), "ok");
}

// The app's uid may not be able to write there, but root could: the worker must not.
TEST_F(SqliteFilesTest, ACheckpointHasNoMoreRightsThanTheOwner) {
  App app(root_ / "app.db");
  MakeWalDatabase(app);
  ASSERT_EQ(::chown((root_ / "app.db").c_str(), 1234, 1234), 0);
  ASSERT_EQ(::chmod((root_ / "app.db-wal").c_str(), 0600), 0);
  ASSERT_EQ(::chmod((root_ / "app.db-shm").c_str(), 0600), 0);
  const SqliteFile file = Only();
  EXPECT_FALSE(Checkpoint(file).ok());
  EXPECT_EQ(Only().wal_size, file.wal_size);
}

TEST_F(SqliteFilesTest, DamageIsNamed) {
  {
    App app(root_ / "app.db");
    app.Run("CREATE TABLE t(x); CREATE INDEX i ON t(x);");
    app.Run(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<5000) "
        "INSERT INTO t SELECT 'row ' || x FROM n");
  }
  EXPECT_EQ(Check(Only()), "ok");
  {
    std::fstream file(root_ / "app.db", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(8192 + 20);
    file << std::string(3000, 'Z');
  }
  EXPECT_THAT(Check(Only()), Not("ok"));
}

TEST_F(SqliteFilesTest, AHeaderWithNothingBehindItIsAnAnswerNotAnError) {
  std::string content("SQLite format 3\0", 16);
  content.resize(4096, '\xff');
  std::ofstream(root_ / "app.db", std::ios::binary) << content;
  EXPECT_THAT(Check(Only()), StartsWith("could not be read"));
}

// A symlink in the place of the WAL would have root write where it points to.
TEST_F(SqliteFilesTest, APlantedSymlinkLeadsNowhere) {
  const fs::path outside = root_.string() + "-outside";
  fs::create_directories(outside);
  for (const char* suffix : {"-wal", "-shm", "-journal"}) {
    App(root_ / "app.db").Run("PRAGMA journal_mode=WAL; CREATE TABLE t(x);");
    SqliteFile file = Only();
    file.wal_size = 1;  // the app put the symlink there after the scan
    fs::remove(root_ / (std::string("app.db") + suffix));
    fs::create_symlink(outside / "target", root_ / (std::string("app.db") + suffix));
    Checkpoint(file).IgnoreError();
    Check(file);
    EXPECT_TRUE(fs::is_empty(outside)) << suffix;
    for (const char* name : {"app.db", "app.db-wal", "app.db-shm", "app.db-journal"}) {
      fs::remove(root_ / name);
    }
  }
  fs::remove_all(outside);
}

TEST_F(SqliteFilesTest, ADatabaseReplacedByASymlinkOrAFifoIsNotOpened) {
  const fs::path outside = root_.string() + "-outside";
  fs::create_directories(outside);
  App(outside / "secret.db").Run("CREATE TABLE t(x)");
  SqliteFile file{.path = "app.db", .size = 4096, .uid = 0, .gid = 0, .wal_size = 1};
  fs::create_symlink(outside / "secret.db", root_ / "app.db");
  EXPECT_FALSE(Checkpoint(file).ok());
  EXPECT_THAT(Check(file), StartsWith("could not be read"));
  fs::remove(root_ / "app.db");
  file.path = "../" + outside.filename().string() + "/secret.db";
  EXPECT_THAT(Check(file), StartsWith("could not be read")) << "the volume is its whole world";
  ASSERT_EQ(::mkfifo((root_ / "app.db").c_str(), 0600), 0);
  file.path = "app.db";
  const absl::Time begun = absl::Now();
  EXPECT_THAT(Check(file, {.timeout = absl::Seconds(1)}), StartsWith("could not be read"));
  EXPECT_LT(absl::Now() - begun, absl::Seconds(10));
  fs::remove_all(outside);
}

TEST_F(SqliteFilesTest, ACheckThatTakesTooLongIsEnded) {
  {
    App app(root_ / "app.db");
    app.Run("CREATE TABLE t(x); CREATE INDEX i ON t(x);");
    app.Run(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<400000) "
        "INSERT INTO t SELECT 'row ' || x FROM n");
  }
  const absl::Time begun = absl::Now();
  EXPECT_THAT(Check(Only(), {.timeout = absl::Milliseconds(5)}), HasSubstr("too long"));
  EXPECT_LT(absl::Now() - begun, absl::Seconds(5));
}

TEST_F(SqliteFilesTest, ACheckCanBeStopped) {
  App(root_ / "app.db").Run("CREATE TABLE t(x)");
  std::stop_source source;
  source.request_stop();
  SqliteWorkerOptions options;
  options.stop = source.get_token();
  EXPECT_TRUE(absl::IsCancelled(CheckSqliteFile(fd_.get(), Only(), options).status()));
}

TEST_F(SqliteFilesTest, AWorkerThatIsNoneIsAnError) {
  App app(root_ / "app.db");
  MakeWalDatabase(app);
  EXPECT_FALSE(CheckSqliteFile(fd_.get(), Only(), {.program = "/nonexistent"}).ok());
}

}  // namespace
}  // namespace vibe::state
