#include "supervisor/sqlite.h"

#include "absl/strings/str_cat.h"

namespace vibe::supervisor {
namespace {

constexpr int kBusyTimeoutMilliseconds = 5'000;

absl::Status SqliteError(sqlite3* database, int code) {
  const std::string message =
      absl::StrCat("the project database: ",
                   database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code));
  switch (code & 0xff) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return absl::DataLossError(message);
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(message);
    case SQLITE_CONSTRAINT:
      return absl::AlreadyExistsError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

SqliteStatement& SqliteStatement::Bind(int parameter, absl::string_view text) {
  const int code = sqlite3_bind_text64(statement_.get(), parameter, text.data(), text.size(),
                                       SQLITE_TRANSIENT, SQLITE_UTF8);
  bind_error_ = bind_error_ == SQLITE_OK ? code : bind_error_;
  return *this;
}

SqliteStatement& SqliteStatement::Bind(int parameter, int64_t number) {
  const int code = sqlite3_bind_int64(statement_.get(), parameter, number);
  bind_error_ = bind_error_ == SQLITE_OK ? code : bind_error_;
  return *this;
}

absl::Status SqliteStatement::Run(absl::FunctionRef<void(const SqliteStatement&)> row) {
  int code = bind_error_;
  if (code == SQLITE_OK) {
    while ((code = sqlite3_step(statement_.get())) == SQLITE_ROW) {
      row(*this);
    }
  }
  absl::Status status = code == SQLITE_DONE
                            ? absl::OkStatus()
                            : SqliteError(sqlite3_db_handle(statement_.get()), code);
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  bind_error_ = SQLITE_OK;
  return status;
}

absl::Status SqliteStatement::Run() {
  return Run([](const SqliteStatement&) {});
}

std::string SqliteStatement::Text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return text == nullptr ? "" : std::string(text, static_cast<size_t>(size));
}

int64_t SqliteStatement::Number(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

absl::StatusOr<SqliteConnection> SqliteConnection::Open(const std::filesystem::path& path) {
  SqliteConnection connection;
  sqlite3* database = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &database,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr);
  connection.database_.reset(database);
  if (code != SQLITE_OK) {
    return SqliteError(database, code);
  }
  sqlite3_extended_result_codes(database, 1);
  sqlite3_busy_timeout(database, kBusyTimeoutMilliseconds);
  return connection;
}

absl::Status SqliteConnection::Execute(const char* sql) {
  const int code = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : SqliteError(database_.get(), code);
}

absl::StatusOr<SqliteStatement> SqliteConnection::Prepare(absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) {
    return SqliteError(database_.get(), code);
  }
  return SqliteStatement(statement);
}

absl::Status SqliteConnection::Transaction(absl::FunctionRef<absl::Status()> body) {
  absl::Status status = Execute("BEGIN IMMEDIATE");
  if (!status.ok()) {
    return status;
  }
  status = body();
  if (status.ok()) {
    status = Execute("COMMIT");
  }
  if (!status.ok()) {
    Execute("ROLLBACK").IgnoreError();  // fails when SQLite has rolled back already
  }
  return status;
}

}  // namespace vibe::supervisor
