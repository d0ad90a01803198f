#include "supervisor/project_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "base/status.h"

namespace vibe::supervisor {
namespace {

class ProjectStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "vibe-store-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path path() const { return directory_ / "supervisor.db"; }
  std::unique_ptr<ProjectStore> Open() const {
    auto store = ProjectStore::Open(path());
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  std::string Query(const std::string& sql) const {
    sqlite3* database = nullptr;
    sqlite3_open(path().c_str(), &database);
    std::string answer;
    sqlite3_exec(
        database, sql.c_str(),
        [](void* out, int, char** values, char**) {
          *static_cast<std::string*>(out) += values[0] != nullptr ? values[0] : "";
          return 0;
        },
        &answer, nullptr);
    sqlite3_close(database);
    return answer;
  }

  std::filesystem::path directory_;
};

ProjectRecord Project(const std::string& id, const std::string& name) {
  ProjectRecord record;
  record.id = id;
  record.name = name;
  record.app_id = "com.example.app";
  record.app_version = "1.0.0";
  record.manifest_json = "{\"name\":\"caf\u00e9\"}";
  record.package_digest = "sha256:aa";
  record.grants = {.network = true, .expose_ports = false, .host_file_import = true};
  return record;
}

TEST_F(ProjectStoreTest, RemembersAProjectAcrossARestart) {
  ProjectRecord stored;
  {
    const auto store = Open();
    stored = *store->Put(Project("id-1", "notes"));
    ASSERT_TRUE(store->SetWantRunning("id-1", true).ok());
    ASSERT_TRUE(store->SetOpened("id-1", true).ok());
  }
  const auto found = Open()->Get("id-1");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->name, "notes");
  EXPECT_EQ(found->app_id, "com.example.app");
  EXPECT_EQ(found->app_version, "1.0.0");
  EXPECT_EQ(found->manifest_json, stored.manifest_json);
  EXPECT_EQ(found->package_digest, "sha256:aa");
  EXPECT_TRUE(found->grants.network);
  EXPECT_FALSE(found->grants.expose_ports);
  EXPECT_TRUE(found->grants.host_file_import);
  EXPECT_TRUE(found->want_running);
  EXPECT_TRUE(found->opened);
  EXPECT_EQ(found->created_at, stored.created_at);
}

TEST_F(ProjectStoreTest, IsPrivateToItsUser) {
  const auto store = Open();
  ASSERT_TRUE(store->Put(Project("id-1", "notes")).ok());
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    struct stat info {};
    ASSERT_EQ(::stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U) << entry.path();
  }
}

TEST_F(ProjectStoreTest, GivesANameToOneProjectOnly) {
  const auto store = Open();
  ASSERT_TRUE(store->Put(Project("id-1", "notes")).ok());
  ASSERT_TRUE(store->Put(Project("id-2", "other")).ok());
  for (const char* id : {"id-2", "id-3"}) {
    const auto taken = store->Put(Project(id, "notes"));
    EXPECT_EQ(ReasonOf(taken.status()), Reason::kConflict) << id;
  }
  EXPECT_EQ(store->Get("id-2")->name, "other");
  EXPECT_TRUE(absl::IsNotFound(store->Get("id-3").status()));
}

TEST_F(ProjectStoreTest, KeepsNetworkAndDesiredStateWhenAProjectChanges) {
  const auto store = Open();
  ASSERT_TRUE(store->Put(Project("id-0", "first")).ok());
  const ProjectRecord before = *store->Put(Project("id-1", "notes"));
  ASSERT_TRUE(store->SetWantRunning("id-1", true).ok());
  ProjectRecord changed = Project("id-1", "renamed");
  changed.app_version = "2.0.0";
  changed.network_index = 77;
  const auto after = store->Put(changed);
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(after->network_index, before.network_index);
  EXPECT_EQ(after->created_at, before.created_at);
  EXPECT_TRUE(after->want_running);
  EXPECT_EQ(store->GetByName("renamed")->app_version, "2.0.0");
  EXPECT_EQ(ReasonOf(store->GetByName("notes").status()), Reason::kNotFound);
}

TEST_F(ProjectStoreTest, ChangesNothingWhenTheSameIsPutTwice) {
  const auto store = Open();
  const ProjectRecord first = *store->Put(Project("id-1", "notes"));
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  EXPECT_EQ(store->Put(Project("id-1", "notes"))->updated_at, first.updated_at);
}

TEST_F(ProjectStoreTest, ReusesTheSmallestFreeNetwork) {
  const auto store = Open();
  for (const int index : {0, 1, 2, 3}) {
    const std::string id = std::to_string(index);
    EXPECT_EQ(store->Put(Project(id, "p" + id))->network_index, index);
  }
  ASSERT_TRUE(store->Delete("1").ok());
  ASSERT_TRUE(store->Delete("1").ok());
  ASSERT_TRUE(store->Delete("2").ok());
  EXPECT_EQ(store->Put(Project("a", "a"))->network_index, 1);
  EXPECT_EQ(store->Put(Project("b", "b"))->network_index, 2);
  EXPECT_EQ(store->Put(Project("c", "c"))->network_index, 4);
}

TEST_F(ProjectStoreTest, ListsByName) {
  const auto store = Open();
  for (const char* name : {"pear", "apple", "fig"}) {
    ASSERT_TRUE(store->Put(Project(std::string("id-") + name, name)).ok());
  }
  std::vector<std::string> names;
  for (const ProjectRecord& record : *store->List()) {
    names.push_back(record.name);
  }
  EXPECT_THAT(names, testing::ElementsAre("apple", "fig", "pear"));
}

TEST_F(ProjectStoreTest, KnowsWhichPackagesAreInUse) {
  const auto store = Open();
  ASSERT_TRUE(store->Put(Project("id-1", "notes")).ok());
  EXPECT_TRUE(*store->PackageInUse("sha256:aa"));
  EXPECT_FALSE(*store->PackageInUse("sha256:bb"));
  ASSERT_TRUE(store->Delete("id-1").ok());
  EXPECT_FALSE(*store->PackageInUse("sha256:aa"));
}

TEST_F(ProjectStoreTest, KeepsVersionsAsLongAsTheirSnapshotOrProject) {
  auto store = Open();
  ASSERT_TRUE(store->Put(Project("id-1", "notes")).ok());
  ASSERT_TRUE(store->KeepVersion("id-1", "s1", {"0.9.0", "{}", "sha256:old"}).ok());
  ASSERT_TRUE(store->KeepVersion("id-1", "s2", {"0.8.0", "{}", "sha256:older"}).ok());
  ASSERT_TRUE(store->KeepVersion("id-2", "s1", {"7.0.0", "{}", "sha256:other"}).ok());
  store = nullptr;
  store = Open();
  const auto kept = store->KeptVersions("id-1").value();
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept.at("s1").app_version, "0.9.0");
  EXPECT_EQ(kept.at("s1").manifest_json, "{}");
  EXPECT_EQ(kept.at("s1").package_digest, "sha256:old");
  EXPECT_TRUE(*store->PackageInUse("sha256:old")) << "there would be no way back";
  ASSERT_TRUE(store->ForgetVersion("id-1", "s1").ok());
  EXPECT_FALSE(*store->PackageInUse("sha256:old"));
  EXPECT_TRUE(*store->PackageInUse("sha256:older"));
  ASSERT_TRUE(store->Delete("id-1").ok());
  EXPECT_FALSE(*store->PackageInUse("sha256:older"));
  EXPECT_TRUE(*store->PackageInUse("sha256:other"));
}

TEST_F(ProjectStoreTest, TakesOverAFileOfTheVersionBefore) {
  Open()->Put(Project("id-1", "notes")).IgnoreError();
  Query("DROP TABLE versions; PRAGMA user_version = 1");
  const auto store = Open();
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(store->Get("id-1").ok());
  EXPECT_TRUE(store->KeepVersion("id-1", "s1", {"0.9.0", "{}", "sha256:old"}).ok());
}

TEST_F(ProjectStoreTest, SaysWhenAProjectIsMissing) {
  const auto store = Open();
  EXPECT_EQ(ReasonOf(store->SetOpened("nobody", true)), Reason::kNotFound);
  EXPECT_EQ(ReasonOf(store->SetWantRunning("nobody", true)), Reason::kNotFound);
}

TEST_F(ProjectStoreTest, TakesTextAsTextAndNotAsSql) {
  const auto store = Open();
  const std::string name = "x'); DROP TABLE projects; --";
  ASSERT_TRUE(store->Put(Project("id-1", name)).ok());
  EXPECT_EQ(store->GetByName(name)->id, "id-1");
}

TEST_F(ProjectStoreTest, RefusesAFileOfANewerVersion) {
  Open();
  Query("PRAGMA user_version = 99");
  const auto store = ProjectStore::Open(path());
  EXPECT_TRUE(absl::IsFailedPrecondition(store.status()));
  EXPECT_THAT(std::string(store.status().message()), testing::HasSubstr("99"));
  EXPECT_NE(AdviceOf(store.status()), "");
}

TEST_F(ProjectStoreTest, RefusesAFileThatIsNoDatabase) {
  std::ofstream(path()) << std::string(8192, 'x');
  EXPECT_TRUE(absl::IsDataLoss(ProjectStore::Open(path()).status()));
}

TEST_F(ProjectStoreTest, GivesManyThreadsDifferentNetworks) {
  const auto store = Open();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&store, thread] {
      for (int i = 0; i < 10; ++i) {
        const std::string id = std::to_string(thread) + "-" + std::to_string(i);
        EXPECT_TRUE(store->Put(Project(id, "p" + id)).ok());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(Query("SELECT max(network_index) || '/' || count(*) FROM projects"), "39/40");
}

// What a call returned must be there after the process died at any instant.
TEST_F(ProjectStoreTest, LosesNothingWhenTheProcessIsKilled) {
  int acknowledged = 0;
  for (int round = 0; round < 5; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const auto store = ProjectStore::Open(path());
      for (int i = acknowledged; store.ok(); ++i) {
        const std::string id = std::to_string(i);
        if (!(*store)->Put(Project(id, "p" + id)).ok() ||
            ::write(pipe_ends[1], &i, sizeof i) != sizeof i) {
          break;
        }
      }
      ::_exit(1);
    }
    ::close(pipe_ends[1]);
    const int goal = acknowledged + 10 + 7 * round;
    int written = 0;
    while (acknowledged < goal &&
           ::read(pipe_ends[0], &written, sizeof written) == sizeof written) {
      acknowledged = written + 1;
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the writer gave up by itself";
    while (::read(pipe_ends[0], &written, sizeof written) == sizeof written) {
      acknowledged = written + 1;
    }
    ::close(pipe_ends[0]);
    ASSERT_GE(acknowledged, goal);
    EXPECT_EQ(Query("PRAGMA integrity_check"), "ok");
    const auto store = Open();
    for (int i = 0; i < acknowledged; ++i) {
      ASSERT_TRUE(store->Get(std::to_string(i)).ok()) << "project " << i << " is lost";
    }
    acknowledged = static_cast<int>(store->List()->size());
  }
}

}  // namespace
}  // namespace vibe::supervisor
