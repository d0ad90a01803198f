#include "state/snapshot_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "btrfs_image.h"
#include "state/subvolume.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kUnknownId[] = "01234567-89ab-4def-8123-456789abcdef";

void Write(const fs::path& path, absl::string_view content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class SnapshotStoreTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { image_ = new BtrfsImage(); }
  static void TearDownTestSuite() { delete std::exchange(image_, nullptr); }

  SnapshotStoreTest() {
    projects_ = image_->root() / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    project_ = projects_ / "one";
    store_ = MakeStore("one");
    Write(Volume("f"), "first");
  }

  std::unique_ptr<SnapshotStore> MakeStore(const std::string& id) {
    fs::create_directories(projects_ / id);
    auto store = SnapshotStore::Open(projects_ / id, id).value();
    EXPECT_TRUE(store->EnsureCurrent().ok());
    return store;
  }

  fs::path Volume(const std::string& file) const { return project_ / "current/volumes/v" / file; }

  std::string Save(SnapshotReason reason = SnapshotReason::kManual) {
    const absl::StatusOr<SnapshotMetadata> saved = store_->Save(
        {.reason = reason, .app_version = "1.0.0", .volumes = {{"v", Consistency::kGeneric}}});
    EXPECT_TRUE(saved.ok()) << saved.status();
    return saved.ok() ? saved->snapshot_id : "";
  }

  std::vector<std::string> Ids() {
    std::vector<std::string> ids;
    const std::vector<ListedSnapshot> listed = store_->List().value();
    for (const ListedSnapshot& snapshot : listed) {
      EXPECT_EQ(snapshot.problem, "");
      ids.push_back(snapshot.metadata.snapshot_id);
    }
    return ids;
  }

  absl::Status Restore(const std::string& id, bool verify = false) {
    const absl::Status whole = verify ? store_->Verify(id) : absl::OkStatus();
    return whole.ok() ? store_->Restore({.snapshot_id = id}) : whole;
  }

  // Everything that an operation may leave of itself.
  void ExpectClean(const fs::path& project) {
    EXPECT_FALSE(fs::exists(project / "intent.json"));
    const absl::Time deadline = absl::Now() + absl::Seconds(20);  // it is removed in the background
    while (fs::exists(project / "staging") && !fs::is_empty(project / "staging")) {
      ASSERT_LT(absl::Now(), deadline) << "something is left in staging/";
      absl::SleepFor(absl::Milliseconds(10));
    }
  }

  // `call` fails for that reason, and neither the list nor the live state is another afterwards.
  void ExpectRefused(const absl::Status& status, Reason reason, const std::string& named) {
    EXPECT_EQ(ReasonOf(status), reason) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(named));
    EXPECT_EQ(Read(Volume("f")), "now");
    ExpectClean(project_);
  }

  static inline BtrfsImage* image_ = nullptr;
  fs::path projects_;
  fs::path project_;
  std::unique_ptr<SnapshotStore> store_;
};

TEST_F(SnapshotStoreTest, ARestoreBringsBackWhatWasSaved) {
  const std::string id = Save();
  Write(Volume("f"), "second");
  Write(Volume("g"), "new");
  ASSERT_TRUE(Restore(id).ok());
  EXPECT_EQ(Read(Volume("f")), "first");
  EXPECT_FALSE(fs::exists(Volume("g")));
  Write(Volume("f"), "the app runs on");
  EXPECT_EQ(Read(project_ / "snapshots" / id / "state/volumes/v/f"), "first");
  ExpectClean(project_);
}

TEST_F(SnapshotStoreTest, MetadataSaysWhatIsKnown) {
  const SnapshotMetadata saved = store_
                                     ->Save({.app_version = "2.0.0",
                                             .message = "hello",
                                             .labels = {{"k", "v"}},
                                             .volumes = {{"v", Consistency::kGeneric}}})
                                     .value();
  EXPECT_EQ(store_->Get(saved.snapshot_id).value(), saved);
  EXPECT_FALSE(saved.complete);
  const SnapshotMetadata complete = store_->Complete(saved.snapshot_id, {}).value();
  EXPECT_TRUE(complete.complete);
  EXPECT_THAT(complete.state_digest, SizeIs(71));
  EXPECT_EQ(complete.volumes.at("v").size_bytes, 5u);
  EXPECT_EQ(store_->Get(saved.snapshot_id).value(), complete);
  EXPECT_EQ(store_->Complete(saved.snapshot_id, {}).value(), complete) << "a second time";
}

TEST_F(SnapshotStoreTest, ParentsAreWhatTheStateCameFrom) {
  const std::string first = Save();
  const std::string second = Save();
  EXPECT_EQ(store_->Get(first)->parent_snapshot_id, "");
  EXPECT_EQ(store_->Get(second)->parent_snapshot_id, first);
  ASSERT_TRUE(Restore(first).ok());
  const std::string third = Save();
  EXPECT_EQ(store_->Get(third)->parent_snapshot_id, first);
  EXPECT_THAT(Ids(), ElementsAre(third, second, first));
}

TEST_F(SnapshotStoreTest, ThePauseIsMeasuredAndTheAppAlwaysGoesOn) {
  int thaws = 0;
  SaveRequest request;
  request.hooks.quiesce = [] {
    absl::SleepFor(absl::Milliseconds(30));
    return absl::OkStatus();
  };
  request.hooks.thaw = [&] { ++thaws; };
  const absl::StatusOr<SnapshotMetadata> saved = store_->Save(request);
  ASSERT_TRUE(saved.ok()) << saved.status();
  EXPECT_GE(saved->pause, absl::Milliseconds(30));
  EXPECT_EQ(thaws, 1);
  request.hooks.quiesce = [] { return absl::InternalError("cannot freeze"); };
  const absl::Status failed = store_->Save(request).status();
  EXPECT_EQ(ReasonOf(failed), Reason::kSaveFailed) << failed;
  EXPECT_EQ(thaws, 2);
  EXPECT_THAT(Ids(), ElementsAre(saved->snapshot_id));
  ExpectClean(project_);
}

TEST_F(SnapshotStoreTest, WhetherSomethingChangedIsKnownWithoutLooking) {
  EXPECT_TRUE(*store_->ChangedSinceSnapshot()) << "never saved";
  const std::string id = Save();
  EXPECT_FALSE(*store_->ChangedSinceSnapshot());
  Read(Volume("f"));
  ASSERT_TRUE(CommitFilesystem(image_->fd()).ok());
  EXPECT_FALSE(*store_->ChangedSinceSnapshot()) << "reading changes nothing";
  Write(Volume("f"), "second");
  EXPECT_TRUE(*store_->ChangedSinceSnapshot());
  Save();
  EXPECT_FALSE(*store_->ChangedSinceSnapshot());
  ASSERT_TRUE(Restore(id).ok());
  EXPECT_FALSE(*store_->ChangedSinceSnapshot()) << "it is what the snapshot is";
  fs::remove(Volume("f"));
  EXPECT_TRUE(*store_->ChangedSinceSnapshot());
}

TEST_F(SnapshotStoreTest, AnOpenFileThatIsWrittenToShowsToo) {
  const UniqueFd file(::open(Volume("f").c_str(), O_WRONLY));
  ASSERT_EQ(::pwrite(file.get(), "1", 1, 0), 1);
  Save();
  EXPECT_FALSE(*store_->ChangedSinceSnapshot());
  ASSERT_EQ(::pwrite(file.get(), "2", 1, 0), 1);
  EXPECT_TRUE(*store_->ChangedSinceSnapshot());
}

TEST_F(SnapshotStoreTest, VerifySeesOneChangedByte) {
  const std::string id = Save();
  EXPECT_TRUE(absl::IsFailedPrecondition(Restore(id, true))) << "not complete yet";
  ASSERT_TRUE(store_->Complete(id, {}).ok());
  EXPECT_TRUE(Restore(id, true).ok());
  const fs::path folder = project_ / "snapshots" / id;
  const UniqueFd folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY));
  const UniqueFd state = OpenSubvolume(folder_fd.get(), "state").value();
  ASSERT_TRUE(SetReadOnly(state.get(), false).ok());
  Write(Volume("f"), "now");
  ExpectRefused(Restore(id), Reason::kSnapshotMismatch, "made writable");
  Write(folder / "state/volumes/v/f", "fIrst");
  ASSERT_TRUE(SetReadOnly(state.get(), true).ok());
  ExpectRefused(Restore(id, true), Reason::kSnapshotMismatch, "volume v");
  EXPECT_TRUE(Restore(id).ok()) << "only the digest tells";
}

TEST_F(SnapshotStoreTest, ARestoreThatCannotBePreparedLeavesTheOldState) {
  const std::string id = Save();
  Write(Volume("f"), "now");
  const absl::Status status = store_->Restore({.snapshot_id = id, .prepare = [](const fs::path& p) {
                                                 Write(p / "volumes/v/f", "half");
                                                 return absl::InternalError("no dump");
                                               }});
  ExpectRefused(status, Reason::kRestoreFailed, "no dump");
}

TEST_F(SnapshotStoreTest, APreparedRestoreHasWhatWasPrepared) {
  const std::string id = Save();
  ASSERT_TRUE(store_
                  ->Restore({.snapshot_id = id,
                             .prepare =
                                 [](const fs::path& p) {
                                   Write(p / "volumes/v/f", "loaded");
                                   return absl::OkStatus();
                                 }})
                  .ok());
  EXPECT_EQ(Read(Volume("f")), "loaded");
  EXPECT_EQ(Read(project_ / "snapshots" / id / "state/volumes/v/f"), "first");
}

TEST_F(SnapshotStoreTest, ALostStateCanBeRestored) {
  const std::string id = Save();
  const UniqueFd project(::open(project_.c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(DestroySubvolume(project.get(), "current").ok());
  ASSERT_TRUE(Restore(id).ok());
  EXPECT_EQ(Read(Volume("f")), "first");
}

TEST_F(SnapshotStoreTest, ADuplicateGoesItsOwnWay) {
  const std::string id = Save();
  Write(Volume("f"), "now");
  ASSERT_TRUE(
      store_
          ->Duplicate({.snapshot_id = id, .target = projects_ / "two", .target_project_id = "two"})
          .ok());
  ASSERT_TRUE(
      store_->Duplicate({.target = projects_ / "three", .target_project_id = "three"}).ok());
  EXPECT_EQ(Read(projects_ / "two/current/volumes/v/f"), "first");
  EXPECT_EQ(Read(projects_ / "three/current/volumes/v/f"), "now");
  Write(projects_ / "two/current/volumes/v/f", "theirs");
  EXPECT_EQ(Read(Volume("f")), "now");
  ExpectClean(projects_ / "two");
  EXPECT_THAT(MakeStore("two")->List().value(), IsEmpty());
  const absl::Status again =
      store_->Duplicate({.target = projects_ / "two", .target_project_id = "two"});
  EXPECT_EQ(ReasonOf(again), Reason::kConflict) << again;
  EXPECT_EQ(Read(projects_ / "two/current/volumes/v/f"), "theirs");
}

TEST_F(SnapshotStoreTest, AFailedDuplicateLeavesNothing) {
  const auto fail = [](const fs::path&) { return absl::InternalError("no"); };
  EXPECT_FALSE(
      store_->Duplicate({.target = projects_ / "two", .target_project_id = "two", .prepare = fail})
          .ok());
  EXPECT_FALSE(fs::exists(projects_ / "two"));
}

TEST_F(SnapshotStoreTest, PruneKeepsWhatTheUserMade) {
  const std::string manual = Save();
  const std::string automatic = Save(SnapshotReason::kAutosave);
  const std::string before = Save(SnapshotReason::kBeforeRestore);
  const std::string last = Save(SnapshotReason::kAutosave);
  EXPECT_THAT(store_->Prune({.max_snapshots = 3}, {last}).value(), ElementsAre(automatic));
  EXPECT_THAT(Ids(), ElementsAre(last, before, manual));
  EXPECT_FALSE(fs::exists(project_ / "snapshots" / automatic));
}

TEST_F(SnapshotStoreTest, AnUnknownIdIsRefusedByName) {
  Save();
  Write(Volume("f"), "now");
  ExpectRefused(Restore(kUnknownId), Reason::kNotFound, kUnknownId);
  ExpectRefused(store_->Delete(kUnknownId), Reason::kNotFound, kUnknownId);
  ExpectRefused(store_->Get("../../x").status(), Reason::kNotFound, "../../x");
  ExpectRefused(store_->Get("").status(), Reason::kNotFound, "no snapshot");
}

TEST_F(SnapshotStoreTest, ASnapshotOfAnotherProjectIsRefused) {
  auto other = MakeStore("other");
  const std::string theirs = other->Save({}).value().snapshot_id;
  Write(Volume("f"), "now");
  ExpectRefused(Restore(theirs), Reason::kNotFound, theirs);
  // Copied into this project's folder, and even into its list.
  fs::create_directories(project_ / "snapshots");
  fs::rename(projects_ / "other/snapshots" / theirs, project_ / "snapshots" / theirs);
  ExpectRefused(Restore(theirs), Reason::kNotFound, theirs);
  Write(project_ / "index.json", IndexToJson({.project_id = "one", .snapshot_ids = {theirs}}));
  ExpectRefused(Restore(theirs), Reason::kSnapshotMismatch, "another project's, other");
  Write(project_ / "index.json", IndexToJson({.project_id = "other", .snapshot_ids = {theirs}}));
  ExpectRefused(Restore(theirs), Reason::kSnapshotMismatch, "another project");
  ExpectRefused(store_->Recover().status(), Reason::kSnapshotMismatch, "another project");
}

TEST_F(SnapshotStoreTest, AMissingSubvolumeIsRefusedAndStaysListedUntilItIsDeleted) {
  const std::string id = Save();
  const std::string whole = Save();
  Write(Volume("f"), "now");
  const UniqueFd folder(::open((project_ / "snapshots" / id).c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(DestroySubvolume(folder.get(), "state").ok());
  ExpectRefused(Restore(id), Reason::kSnapshotMismatch, "its subvolume is missing");
  ASSERT_TRUE(store_->Recover().ok());
  const std::vector<ListedSnapshot> listed = store_->List().value();
  ASSERT_THAT(listed, SizeIs(2));
  EXPECT_EQ(listed[0].problem, "");
  EXPECT_THAT(listed[1].problem, HasSubstr("missing"));
  EXPECT_TRUE(store_->Delete(id).ok());
  EXPECT_THAT(Ids(), ElementsAre(whole));
}

TEST_F(SnapshotStoreTest, AnotherSubvolumeInItsPlaceIsRefused) {
  const std::string id = Save();
  const std::string other = Save();
  Write(Volume("f"), "now");
  for (const std::string& one : {id, other}) {  // a read-only one cannot be moved
    const UniqueFd state(
        ::open((project_ / "snapshots" / one / "state").c_str(), O_RDONLY | O_DIRECTORY));
    ASSERT_TRUE(SetReadOnly(state.get(), false).ok());
  }
  fs::rename(project_ / "snapshots" / id / "state", project_ / "aside");
  fs::rename(project_ / "snapshots" / other / "state", project_ / "snapshots" / id / "state");
  ExpectRefused(Restore(id), Reason::kSnapshotMismatch, "another one");
}

TEST_F(SnapshotStoreTest, MetadataFromTheFutureIsRefusedAndKept) {
  const std::string id = Save();
  Write(Volume("f"), "now");
  const fs::path file = project_ / "snapshots" / id / "metadata.json";
  auto json = nlohmann::json::parse(Read(file));
  json["schemaVersion"] = 99;
  const std::string future = json.dump();
  Write(file, future);
  ExpectRefused(Restore(id), Reason::kSnapshotMismatch, "newer version");
  ExpectRefused(store_->Delete(id), Reason::kSnapshotMismatch, "newer version");
  ASSERT_TRUE(store_->Recover().ok());
  EXPECT_EQ(Read(file), future);
  EXPECT_THAT(store_->List().value().at(0).problem, HasSubstr("newer version"));
}

TEST_F(SnapshotStoreTest, ATruncatedIndexIsRefusedAndRebuiltByRecover) {
  const std::string first = Save();
  const std::string second = Save();
  Write(Volume("f"), "now");
  const std::string whole = Read(project_ / "index.json");
  const std::string half = whole.substr(0, whole.size() / 2);
  Write(project_ / "index.json", half);
  ExpectRefused(Restore(first), Reason::kSnapshotMismatch, "index.json is damaged");
  ExpectRefused(store_->Save({}).status(), Reason::kSnapshotMismatch, "index.json is damaged");
  ExpectRefused(store_->List().status(), Reason::kSnapshotMismatch, "index.json is damaged");
  EXPECT_EQ(Read(project_ / "index.json"), half);
  const RecoveryReport report = store_->Recover().value();
  EXPECT_THAT(report.actions, ElementsAre(HasSubstr("rebuilt")));
  EXPECT_EQ(Read(project_ / "index.json"), whole);
  EXPECT_THAT(store_->Recover()->actions, IsEmpty());
  fs::remove(project_ / "index.json");
  ASSERT_TRUE(store_->Recover().ok());
  EXPECT_THAT(Ids(), ElementsAre(second, first));
}

TEST_F(SnapshotStoreTest, AnIndexOrIntentFromTheFutureIsLeftAlone) {
  Save();
  Write(Volume("f"), "now");
  const std::string future = R"({"schemaVersion":2,"everything":"else"})";
  for (const char* name : {"intent.json", "index.json"}) {
    const std::string before = fs::exists(project_ / name) ? Read(project_ / name) : "";
    Write(project_ / name, future);
    const absl::Status status = store_->Recover().status();
    EXPECT_EQ(ReasonOf(status), Reason::kSnapshotMismatch) << status;
    EXPECT_FALSE(store_->Save({}).ok());
    EXPECT_EQ(Read(project_ / name), future);
    before.empty() ? static_cast<void>(fs::remove(project_ / name))
                   : Write(project_ / name, before);
  }
  EXPECT_EQ(Ids().size(), 1u);
}

TEST_F(SnapshotStoreTest, OneAtATime) {
  const UniqueFd project(::open(project_.c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(::flock(project.get(), LOCK_EX), 0);
  const absl::Status status = store_->Save({}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSaveInProgress) << status;
  EXPECT_TRUE(store_->List().ok()) << "looking is free";
  ASSERT_EQ(::flock(project.get(), LOCK_UN), 0);
  EXPECT_TRUE(store_->Save({}).ok());
}

TEST_F(SnapshotStoreTest, ASubvolumeInTheStateIsNotLostInSilence) {
  const UniqueFd volume(::open(Volume("").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(CreateSubvolume(volume.get(), "mine").ok());
  const absl::Status status = store_->Save({}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSaveFailed) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("mine"));
}

TEST_F(SnapshotStoreTest, SqliteVolumesAreChecked) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(Volume("app.db").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(
      sqlite3_exec(database, "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1);",
                   nullptr, nullptr, nullptr),
      SQLITE_OK);
  const SaveRequest request{.volumes = {{"v", Consistency::kSqlite}}};
  const std::string good = store_->Save(request).value().snapshot_id;
  sqlite3_close(database);
  Write(Volume("broken.db"),
        absl::StrCat(absl::string_view("SQLite format 3\0", 16), std::string(4080, '\xee')));
  const std::string bad = store_->Save(request).value().snapshot_id;
  EXPECT_EQ(store_->Complete(good, {})->volumes.at("v").integrity_check, "ok");
  EXPECT_THAT(store_->Complete(bad, {})->volumes.at("v").integrity_check,
              HasSubstr("broken.db: could not be read"));
  ExpectClean(project_);
  EXPECT_TRUE(fs::exists(project_ / "snapshots" / good / "state/volumes/v/app.db-wal"))
      << "the WAL is part of the snapshot";
}

TEST_F(SnapshotStoreTest, DumpsAreTakenInOrTheirLackIsSaid) {
  const std::string id =
      store_->Save({.volumes = {{"v", Consistency::kPostgres}, {"w", Consistency::kPostgres}}})
          .value()
          .snapshot_id;
  const fs::path dump = store_->StageDump().value();
  Write(dump, "PGDMP");
  CompleteRequest request;
  request.dumps.emplace("v", dump);
  request.dumps.emplace("w", absl::InternalError("pg_dump: out of memory"));
  const SnapshotMetadata complete = store_->Complete(id, request).value();
  EXPECT_EQ(complete.volumes.at("v").dump_format, "pg_dump_custom");
  EXPECT_FALSE(complete.volumes.at("v").raw_only);
  EXPECT_TRUE(complete.volumes.at("w").raw_only);
  EXPECT_THAT(complete.volumes.at("w").problem, HasSubstr("out of memory"));
  EXPECT_EQ(Read(store_->DumpPath(id, "v").value()), "PGDMP");
  EXPECT_TRUE(absl::IsNotFound(store_->DumpPath(id, "w").status()));
  ExpectClean(project_);
  EXPECT_TRUE(store_->Delete(id).ok()) << "with its dumps";
}

TEST_F(SnapshotStoreTest, CompletingCanBeStopped) {
  const std::string id = Save();
  std::stop_source source;
  source.request_stop();
  EXPECT_TRUE(absl::IsCancelled(store_->Complete(id, {.stop = source.get_token()}).status()));
  EXPECT_THAT(store_->Recover()->incomplete, ElementsAre(id));
}

TEST_F(SnapshotStoreTest, ACloneGoesWithItsOwner) {
  const std::string id = Save();
  {
    const SnapshotClone clone = store_->Clone(id).value();
    Write(clone.path() / "volumes/v/f", "changed");
  }
  ExpectClean(project_);
  EXPECT_EQ(Read(project_ / "snapshots" / id / "state/volumes/v/f"), "first");
}

TEST_F(SnapshotStoreTest, RecoverRemovesWhatACrashLeftInStaging) {
  const std::string id = Save();
  store_->Clone(id).value().path();
  fs::create_directories(project_ / "staging/save-x/dumps");
  const UniqueFd folder(::open((project_ / "staging/save-x").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(CreateSubvolume(folder.get(), "state").ok());
  Write(project_ / "staging/dump-1", "x");
  Write(project_ / ".index.json.new", "{");
  Write(project_ / "intent.json", "{ damaged");
  ASSERT_TRUE(store_->Recover().ok());
  ExpectClean(project_);
  EXPECT_FALSE(fs::exists(project_ / ".index.json.new"));
  EXPECT_THAT(Ids(), ElementsAre(id));
}

TEST_F(SnapshotStoreTest, AFolderThatIsNoSubvolumeIsNotTakenForTheState) {
  fs::create_directories(projects_ / "plain/current");
  auto store = SnapshotStore::Open(projects_ / "plain", "plain").value();
  EXPECT_TRUE(absl::IsFailedPrecondition(store->EnsureCurrent()));
  EXPECT_TRUE(absl::IsFailedPrecondition(store->Save({}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(SnapshotStore::Open("/dev/shm", "x").status()));
}

}  // namespace
}  // namespace vibe::state
