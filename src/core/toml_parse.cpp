// toml_parse.cpp: toml++ parses, this turns its tree into jansson's values and throws nothing. The only file of C++:
// it knows no file names and no drr_error, which are toml.c's.
#include "core/toml_internal.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_UNRELEASED_FEATURES 0
#include <toml++/toml.h>

#include <cmath>
#include <cstdio>
#include <new>
#include <string>

namespace
{

struct converter {
    json_t *lines;
    toml_trouble *trouble;

    json_t *refuse(const toml::node &node, const std::string &path, const char *what)
    {
        trouble->line = static_cast<int>(node.source().begin.line);
        std::snprintf(trouble->message, sizeof trouble->message, "%s is %s", path.c_str(), what);
        return nullptr;
    }

    json_t *scalar(const toml::node &node, const std::string &path)
    {
        if (const auto *text = node.as_string()) {
            json_t *made = json_stringn((*text)->data(), (*text)->size());
            return made ? made : refuse(node, path, "not UTF-8");
        }
        if (const auto *number = node.as_integer())
            return json_integer(static_cast<json_int_t>(number->get()));
        if (const auto *number = node.as_floating_point())
            return std::isfinite(number->get()) ? json_real(number->get())
                                                : refuse(node, path, "nan or inf, and has to be a number");
        if (const auto *truth = node.as_boolean())
            return json_boolean(truth->get());
        return refuse(node, path, "a date or a time: write it as text, in quotes");
    }

    // NULL and a trouble without a line: out of memory.
    json_t *value(const toml::node &node, const std::string &path)
    {
        json_t *made = nullptr;
        if (json_object_set_new(lines, path.c_str(), json_integer(node.source().begin.line)) != 0)
            return nullptr;
        if (const toml::table *table = node.as_table()) {
            made = json_object();
            for (auto &&[key, child] : *table) {
                const std::string name(key.str());
                if (name.find('\0') != std::string::npos) { // a JSON object's key ends there
                    json_decref(made);
                    return refuse(child, path.empty() ? "a key" : "a key of " + path, "a text with a NUL in it");
                }
                json_t *inner = value(child, path.empty() ? name : path + "." + name);
                // a table that a later header opens has no place of its own before its first key: the key's line is
                // better
                if (inner && key.source().begin.line &&
                    json_object_set_new(lines, (path.empty() ? name : path + "." + name).c_str(),
                                        json_integer(key.source().begin.line)) != 0) {
                    json_decref(inner);
                    inner = nullptr;
                }
                if (!inner || json_object_set_new(made, name.c_str(), inner) != 0) {
                    json_decref(made);
                    return nullptr;
                }
            }
            return made;
        }
        if (const toml::array *array = node.as_array()) {
            made = json_array();
            size_t i = 0;
            for (auto &&child : *array) {
                json_t *inner = value(child, path + "[" + std::to_string(i++) + "]");
                if (!inner || json_array_append_new(made, inner) != 0) {
                    json_decref(made);
                    return nullptr;
                }
            }
            return made;
        }
        return scalar(node, path);
    }
};

} // namespace

extern "C" json_t *toml_to_json(json_t *lines, const char *text, size_t length, toml_trouble *trouble)
try {
    const toml::parse_result parsed = toml::parse(std::string_view(text, length));
    if (!parsed) {
        const auto &why = parsed.error();
        const std::string_view words = why.description();
        trouble->line = static_cast<int>(why.source().begin.line);
        std::snprintf(trouble->message, sizeof trouble->message, "not valid TOML: %.*s", static_cast<int>(words.size()),
                      words.data());
        return nullptr;
    }
    converter c{lines, trouble};
    return c.value(parsed.table(), "");
} catch (...) { // std::bad_alloc, the one exception that is left without toml++'s own
    trouble->line = 0;
    return nullptr;
}
