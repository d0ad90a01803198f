// SQLite for this room: a connection, its prepared statements and its errors as statuses. One
// thread at a time.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vibe::supervisor {

class SqliteConnection;

// A prepared statement. Parameters and columns are counted from 1 and from 0, as SQLite does.
class SqliteStatement {
 public:
  SqliteStatement() = default;

  SqliteStatement& Bind(int parameter, absl::string_view text);
  SqliteStatement& Bind(int parameter, int64_t number);

  // Runs to the end, calling `row` for each row, and forgets the parameters.
  absl::Status Run(absl::FunctionRef<void(const SqliteStatement&)> row);
  absl::Status Run();

  std::string Text(int column) const;
  int64_t Number(int column) const;

 private:
  friend class SqliteConnection;
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  explicit SqliteStatement(sqlite3_stmt* statement) : statement_(statement) {}

  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
  int bind_error_ = SQLITE_OK;
};

class SqliteConnection {
 public:
  static absl::StatusOr<SqliteConnection> Open(const std::filesystem::path& path);

  absl::Status Execute(const char* sql);
  absl::StatusOr<SqliteStatement> Prepare(absl::string_view sql);

  // Runs `body` in one transaction that excludes other writers; its error undoes everything.
  absl::Status Transaction(absl::FunctionRef<absl::Status()> body);

  int64_t Changes() const {
    return sqlite3_changes(database_.get());
  }  // rows of the last statement

 private:
  struct Closer {
    void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  };
  std::unique_ptr<sqlite3, Closer> database_;
};

}  // namespace vibe::supervisor
