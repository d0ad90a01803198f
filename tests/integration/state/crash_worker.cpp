// What the crash test kills: recovers a project as a supervisor does when it starts, then saves,
// restores, duplicates, completes and deletes until it is killed or done. In a journal, which is
// kept elsewhere, it says before each step what may be there after it.
//
//   vibe-state-crash-worker PROJECTS JOURNAL SEED STEPS
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "state/digest.h"
#include "state/snapshot_store.h"
#include "state/sqlite_files.h"

namespace vibe::state {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

template <typename T>
T OrDie(absl::StatusOr<T> result, const char* what) {
  if (!result.ok()) {
    std::cerr << what << ": " << result.status() << "\n";
    std::exit(3);
  }
  return *std::move(result);
}

void OrDie(const absl::Status& status, const char* what) {
  if (!status.ok()) {
    std::cerr << what << ": " << status << "\n";
    std::exit(3);
  }
}

constexpr size_t kKept = 5;  // snapshots; each is read whole after each death

class Worker {
 public:
  Worker(fs::path projects, fs::path journal, unsigned seed)
      : projects_(std::move(projects)),
        journal_file_(std::move(journal)),
        random_(seed),
        store_(OrDie(SnapshotStore::Open(projects_ / "p", "p"), "open")) {
    std::ifstream file(journal_file_);
    journal_ = json::parse(file);
  }

  void Run(int steps) {
    OrDie(store_->Recover().status(), "recover");
    for (const ListedSnapshot& one : OrDie(store_->List(), "list")) {
      ids_.insert(ids_.begin(), one.metadata.snapshot_id);
    }
    for (int step = 0; step < steps; ++step) {
      Change();
      Save();
      switch (random_() % 5) {
        case 0:
          OrDie(store_->Complete(ids_.back(), {}).status(), "complete");
          break;
        case 1:
          Restore();
          break;
        case 2:
          Duplicate(Pick());
          break;
        case 3:
          Duplicate("");
          break;
        default:
          Delete();
          break;
      }
      while (ids_.size() > kKept) {
        Delete();
      }
    }
  }

 private:
  // What the test may find from here on.
  void Say() {
    const fs::path next = journal_file_.string() + ".new";
    std::ofstream(next) << journal_.dump();
    fs::rename(next, journal_file_);
  }

  static std::string DigestOf(const fs::path& state) {
    const UniqueFd fd(::open(state.c_str(), O_RDONLY | O_DIRECTORY));
    return OrDie(DigestState(fd.get(), std::stop_token()), "digest").digest;
  }

  const std::string& Pick() { return ids_[random_() % ids_.size()]; }

  // Some files, as an app would change them.
  void Change() {
    journal_["current"] = json::array();  // anything
    Say();
    const fs::path volume = projects_ / "p/current/volumes/v";
    fs::create_directories(volume);
    for (int i = 0; i < 4; ++i) {
      const fs::path file = volume / std::to_string(random_() % 8);
      std::error_code ignored;
      switch (random_() % 4) {
        case 0:
          fs::remove(file, ignored);
          break;
        case 1:
          fs::rename(file, volume / std::to_string(random_() % 8), ignored);
          break;
        default:
          std::ofstream(file) << std::string(random_() % 20'000, static_cast<char>('a' + i))
                              << random_();
      }
    }
    journal_["current"] = {DigestOf(projects_ / "p/current")};
    Say();
  }

  void Save() {
    const SnapshotMetadata saved =
        OrDie(store_->Save({.reason = SnapshotReason::kAutosave,
                            .labels = {{"digest", journal_["current"][0]}},
                            .volumes = {{"v", Consistency::kGeneric}}}),
              "save");
    ids_.push_back(saved.snapshot_id);
    journal_["saved"].push_back(saved.snapshot_id);
    Say();
  }

  void Restore() {
    const std::string id = Pick();
    const std::string target = OrDie(store_->Get(id), "get").labels.at("digest");
    journal_["current"].push_back(target);
    Say();
    OrDie(store_->Restore({.snapshot_id = id}), "restore");
    journal_["current"] = {target};
    Say();
  }

  void Duplicate(const std::string& id) {
    const std::string name = absl::StrCat("d", random_() % 1'000'000);
    if (fs::exists(projects_ / name)) {
      return;
    }
    journal_["duplicates"][name] = id.empty() ? journal_["current"][0].get<std::string>()
                                              : OrDie(store_->Get(id), "get").labels.at("digest");
    Say();
    OrDie(store_->Duplicate(
              {.snapshot_id = id, .target = projects_ / name, .target_project_id = name}),
          "duplicate");
    journal_["duplicated"].push_back(name);
    Say();
  }

  void Delete() {
    const std::string id = ids_.front();
    json& saved = journal_["saved"];
    for (size_t i = 0; i < saved.size(); ++i) {
      if (saved[i] == id) {
        saved.erase(i);
        break;
      }
    }
    Say();
    OrDie(store_->Delete(id), "delete");
    ids_.erase(ids_.begin());
    journal_["deleted"].push_back(id);
    Say();
  }

  const fs::path projects_;
  const fs::path journal_file_;
  std::mt19937 random_;
  std::unique_ptr<SnapshotStore> store_;
  std::vector<std::string> ids_;  // listed, oldest first
  json journal_;
};

}  // namespace
}  // namespace vibe::state

int main(int argc, char** argv) {
  if (const std::optional<int> code = vibe::state::SqliteWorkerMain(argc, argv)) {
    return *code;
  }
  unsigned seed = 0;
  int steps = 0;
  if (argc != 5 || !absl::SimpleAtoi(argv[3], &seed) || !absl::SimpleAtoi(argv[4], &steps)) {
    std::cerr << "usage: vibe-state-crash-worker PROJECTS JOURNAL SEED STEPS\n";
    return 2;
  }
  vibe::state::Worker(argv[1], argv[2], seed).Run(steps);
  return 0;
}
