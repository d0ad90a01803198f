// 500 times a process that works on a project's snapshots is killed: at each of the library's fault
// points in turn, at chosen points of random work, at random times; some of the times the power of
// the disk is cut as well. Then the power is cut at any instant of that work. Each time everything
// must be whole, and what was acknowledged must be there.
//
// VIBE_CRASH_SEED repeats a run, VIBE_CRASH_TRIALS has so many trials of each kind.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "btrfs_image.h"
#include "state/digest.h"
#include "state/snapshot_store.h"
#include "state/subvolume.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::IsEmpty;

constexpr int kTrials = 500;
constexpr int kPowerCuts = 200;
constexpr int kPowerCutEach = 8;  // of the trials with random work
constexpr char kWorker[] = VIBE_TEST_BIN_DIR "/vibe-state-crash-worker";

// A number of the environment, or the one given.
template <typename Number>
Number Given(const char* variable, Number otherwise) {
  const char* const text = std::getenv(variable);
  if (text != nullptr && !absl::SimpleAtoi(text, &otherwise)) {
    ADD_FAILURE() << variable << " is no number: " << text;
  }
  return otherwise;
}

unsigned Seed() {
  const unsigned seed = Given("VIBE_CRASH_SEED", std::random_device()());
  std::cout << "VIBE_CRASH_SEED=" << seed << std::endl;
  return seed;
}

std::string DigestOf(const fs::path& state) {
  const UniqueFd fd(::open(state.c_str(), O_RDONLY | O_DIRECTORY));
  const absl::StatusOr<StateDigest> digest = DigestState(fd.get(), std::stop_token());
  return digest.ok() ? digest->digest : digest.status().ToString();
}

class CrashTest : public ::testing::Test {
 protected:
  CrashTest() {
    journal_ = fs::temp_directory_path() / ("vibe-crash-" + RandomHex(8) + ".json");
    fs::create_directories(projects() / "p");
    EXPECT_TRUE(Store("p")->EnsureCurrent().ok());
    Forget();
  }
  ~CrashTest() override { fs::remove(journal_); }

  fs::path projects() const { return image_.root() / "projects"; }

  std::unique_ptr<SnapshotStore> Store(const std::string& id) {
    return SnapshotStore::Open(projects() / id, id).value();
  }

  // The journal of a project whose present state is all that is known.
  void Forget() {
    json saved = json::array();
    const std::vector<ListedSnapshot> all = Store("p")->List().value();
    for (const ListedSnapshot& one : all) {
      saved.push_back(one.metadata.snapshot_id);
    }
    std::ofstream(journal_) << json{
        {"current", {DigestOf(projects() / "p/current")}},
        {"saved", saved},
        {"deleted", json::array()},
        {"duplicates", json::object()},
        {"duplicated",
         json::array()}}.dump();
  }

  pid_t Start(unsigned seed, int steps, const std::string& fault) {
    std::vector<std::string> args = {kWorker, projects(), journal_, std::to_string(seed),
                                     std::to_string(steps)};
    std::vector<char*> argv;
    for (std::string& arg : args) {
      argv.push_back(arg.data());
    }
    argv.push_back(nullptr);
    std::string variable = "VIBE_FAULT=" + fault;
    char* environment[] = {variable.data(), nullptr};
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, kWorker, nullptr, nullptr, argv.data(), environment), 0);
    return pid;
  }

  // Its wait status.
  static int End(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << "it failed by itself";
    return status;
  }

  // Runs the worker with a fault, or kills it after a while. Its wait status.
  int Work(unsigned seed, int steps, const std::string& fault, absl::Duration life) {
    const pid_t pid = Start(seed, steps, fault);
    if (life < absl::InfiniteDuration()) {
      absl::SleepFor(life);
      ::kill(pid, SIGKILL);
    }
    return End(pid);
  }

  json Journal() const {
    json journal;
    std::ifstream(journal_) >> journal;
    return journal;
  }

  // Cuts the power somewhere in the worker's work. What it had said by then must hold; what it
  // said it would do, until a moment later, may have happened.
  void CutPowerWithin(unsigned seed, absl::Duration after) {
    const pid_t pid = Start(seed, 1000, "");
    absl::SleepFor(after);
    json sure = Journal();
    const fs::path disk = image_.CopyNow();
    const json later = Journal();
    ::kill(pid, SIGKILL);
    End(pid);
    image_.ContinueFrom(disk);
    sure["duplicates"] = later["duplicates"];
    json& saved = sure["saved"];
    const json& kept = later["saved"];  // without what was about to be deleted
    for (size_t i = saved.size(); i-- > 0;) {
      if (std::find(kept.begin(), kept.end(), saved[i]) == kept.end()) {
        saved.erase(i);
      }
    }
    std::ofstream(journal_) << sure.dump();
  }

  void Check(bool power_was_cut) {
    const absl::StatusOr<RecoveryReport> report = Store("p")->Recover();
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report->has_current);
    for (const std::string& action : report->actions) {
      ++actions_[action.substr(0, std::min(action.find("snapshot"), action.find('-')))];
    }
    EXPECT_THAT(Store("p")->Recover()->actions, IsEmpty()) << "once is enough";

    const json journal = Journal();
    CheckFiles();
    const std::set<std::string> listed = CheckSnapshots();
    for (const std::string id : journal["saved"]) {
      EXPECT_EQ(listed.count(id), 1u) << "an acknowledged snapshot is lost: " << id;
    }
    for (const std::string id : journal["deleted"]) {
      EXPECT_EQ(listed.count(id), 0u) << "a deleted snapshot is back: " << id;
    }
    const std::string current = DigestOf(projects() / "p/current");
    const json& allowed = journal["current"];
    // Without power, files that nobody synced may be as they were before.
    if (!allowed.empty() && !power_was_cut) {
      EXPECT_NE(std::find(allowed.begin(), allowed.end(), current), allowed.end())
          << "the live state is neither the old nor the new one";
    }
    EXPECT_EQ(current.substr(0, 7), "sha256:") << current;
    const size_t duplicates = CheckDuplicates(journal, power_was_cut);
    const auto subvolumes = ListNestedSubvolumes(image_.fd(), 10'000).value();
    EXPECT_EQ(subvolumes.size(), 1 + listed.size() + duplicates) << "an orphan subvolume";
    RemoveDuplicates();
    Forget();
  }

  void CheckFiles() {
    for (const auto& entry : fs::directory_iterator(projects() / "p")) {
      const std::string name = entry.path().filename();
      const bool known =
          name == "current" || name == "snapshots" || name == "staging" || name == "index.json";
      EXPECT_TRUE(known) << "left: " << name;
    }
    if (fs::exists(projects() / "p/staging")) {
      EXPECT_TRUE(fs::is_empty(projects() / "p/staging"));
    }
  }

  std::set<std::string> CheckSnapshots() {
    std::set<std::string> listed;
    const std::vector<ListedSnapshot> all = Store("p")->List().value();
    for (const ListedSnapshot& one : all) {
      const std::string& id = one.metadata.snapshot_id;
      listed.insert(id);
      EXPECT_EQ(one.problem, "") << id;
      if (one.problem.empty()) {
        const fs::path folder = projects() / "p/snapshots" / id;
        const std::string digest = DigestOf(folder / "state");
        EXPECT_EQ(digest, one.metadata.labels.at("digest")) << "snapshot " << id;
        EXPECT_TRUE(!one.metadata.complete || digest == one.metadata.state_digest);
        for (const auto& entry : fs::directory_iterator(folder)) {
          const std::string name = entry.path().filename();
          EXPECT_TRUE(name == "state" || name == "metadata.json") << "left: " << entry.path();
        }
      }
    }
    std::set<std::string> present;
    if (fs::exists(projects() / "p/snapshots")) {
      for (const auto& entry : fs::directory_iterator(projects() / "p/snapshots")) {
        present.insert(entry.path().filename());
      }
    }
    EXPECT_EQ(present, listed);
    return listed;
  }

  // How many have a state.
  size_t CheckDuplicates(const json& journal, bool power_was_cut) {
    size_t count = 0;
    for (const auto& [name, digest] : journal["duplicates"].items()) {
      if (!fs::exists(projects() / name)) {
        continue;
      }
      const absl::StatusOr<RecoveryReport> report = Store(name)->Recover();
      EXPECT_TRUE(report.ok()) << report.status();
      if (report.ok() && report->has_current) {
        ++count;
        EXPECT_EQ(DigestOf(projects() / name / "current"), digest) << "duplicate " << name;
      }
      EXPECT_FALSE(fs::exists(projects() / name / "intent.json"));
    }
    EXPECT_GE(count, journal["duplicated"].size())
        << "an acknowledged duplicate is lost" << (power_was_cut ? " by the power cut" : "");
    return count;
  }

  void RemoveDuplicates() {
    for (const auto& entry : fs::directory_iterator(projects())) {
      if (entry.path().filename() != "p") {
        const UniqueFd fd(::open(entry.path().c_str(), O_RDONLY | O_DIRECTORY));
        DestroySubvolume(fd.get(), "current").IgnoreError();
        fs::remove_all(entry.path());
      }
    }
    // The test's own removals; a later power cut must not undo them.
    EXPECT_TRUE(CommitFilesystem(image_.fd()).ok());
  }

  void PrintActions() const {
    for (const auto& [action, count] : actions_) {
      std::cout << "  " << count << " times: " << action << "\n";
    }
  }

  BtrfsImage disk_{2ULL << 30};  // a file system with reflinks, for that one's image
  BtrfsImage image_{256ULL << 20, disk_.root()};
  fs::path journal_;
  std::map<std::string, int> actions_;
};

TEST_F(CrashTest, EverythingIsWholeAfterEveryDeath) {
  const int all = Given("VIBE_CRASH_TRIALS", kTrials);
  std::mt19937 random(Seed());
  int trials = 0;
  int deaths = 0;
  // Each point of one piece of work that has all kinds of steps, one after the other.
  for (bool died = true; died && !HasFailure(); ++trials) {
    const int status = Work(7, 8, absl::StrCat("*:", trials + 1), absl::InfiniteDuration());
    died = WIFSIGNALED(status);
    deaths += died ? 1 : 0;
    SCOPED_TRACE(absl::StrCat("at point ", trials + 1));
    Check(false);
  }
  EXPECT_GT(deaths, 60) << "the fault points are not there";
  const int systematic = trials;
  for (; trials < all && !HasFailure(); ++trials) {
    const unsigned work = random();
    const bool cut = trials % kPowerCutEach == 0;
    SCOPED_TRACE(absl::StrCat("trial ", trials, " of work ", work, cut ? ", power cut" : ""));
    const int status =
        trials % 2 == 0
            ? Work(work, 20, absl::StrCat("*:", 1 + random() % 120), absl::InfiniteDuration())
            : Work(work, 1000, "", absl::Microseconds(2'000 + random() % 80'000));
    deaths += WIFSIGNALED(status) ? 1 : 0;
    if (random() % 3 == 0) {  // the supervisor that starts again dies as well
      Work(work, 0, absl::StrCat("*:", 1 + random() % 4), absl::InfiniteDuration());
    }
    if (cut) {
      image_.CutPower();
    }
    Check(cut);
  }
  std::cout << trials << " trials, " << systematic << " of them point by point, " << deaths
            << " deaths" << std::endl;
  PrintActions();
  EXPECT_GE(deaths, trials * 9 / 10);
}

TEST_F(CrashTest, EverythingIsWholeAfterAPowerCutAtAnyInstant) {
  const int all = Given("VIBE_CRASH_TRIALS", kPowerCuts);
  std::mt19937 random(Seed());
  int trials = 0;
  for (; trials < all && !HasFailure(); ++trials) {
    const unsigned work = random();
    SCOPED_TRACE(absl::StrCat("power cut ", trials, " in work ", work));
    CutPowerWithin(work, absl::Microseconds(1'000 + random() % 80'000));
    if (random() % 3 == 0) {  // and again, while the supervisor recovers
      CutPowerWithin(work + 1, absl::Microseconds(random() % 10'000));
    }
    Check(true);
  }
  std::cout << trials << " power cuts" << std::endl;
  PrintActions();
  EXPECT_GE(actions_.size(), 4u) << "the cuts do not come in the middle of anything";
}

}  // namespace
}  // namespace vibe::state
