#include "scaling/csv.h"

#include <algorithm>

#include <fmt/format.h>

#include "core/error.h"

namespace attnscale {

CsvReader::CsvReader(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {
  if (text_.substr(0, 3) == "\xEF\xBB\xBF") text_.remove_prefix(3);
  const auto first_line = text_.substr(0, text_.find('\n'));
  int64_t most = 0;
  for (const char candidate : {',', ';', '\t'})
    if (const auto count = std::count(first_line.begin(), first_line.end(), candidate); count > most) {
      most = count;
      delimiter_ = candidate;
    }
}

void CsvReader::read_quoted(std::string& field) {
  const auto opened = line_;
  for (++at_; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '\n') ++line_;
    if (c == '"') {
      if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') ++at_;
      else {
        ++at_;
        return;
      }
    }
    field += c;
  }
  throw DataError(fmt::format("{}:{}: a quote opens here and never closes; add the closing quote", name_, opened));
}

bool CsvReader::next(std::vector<std::string>& fields) {
  fields.clear();
  while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) line_ += text_[at_++] == '\n';
  if (at_ >= text_.size()) return false;
  record_line_ = line_;
  std::string field;
  while (true) {
    if (at_ < text_.size() && text_[at_] == '"' && field.empty()) read_quoted(field);
    while (at_ < text_.size() && text_[at_] != delimiter_ && text_[at_] != '\n') field += text_[at_++];
    const bool ends = at_ >= text_.size() || text_[at_] == '\n';
    if (ends && !field.empty() && field.back() == '\r') field.pop_back();
    fields.push_back(std::move(field));
    field.clear();
    if (ends) return true;
    ++at_;
  }
}

}  // namespace attnscale
