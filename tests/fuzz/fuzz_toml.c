/* fuzz_toml.c: any bytes for a TOML file: read, and then it is JSON that can be written and read again, every value
 * with a line of the file; or refused with words that name the file. */
#include "core/toml.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *value = NULL, *lines = NULL, *again = NULL, *line;
    const char *path;
    drr_error err = {0};
    files_clear();
    files_put("suite.toml", data, size);
    const drr_status status = toml_read(&value, &lines, "suite.toml", &err);
    if (status == DRR_OK) {
        fuzz_accepted++;
        size_t last = 1;
        for (size_t i = 0; i < size; i++)
            last += data[i] == '\n';
        char *text = json_dumps(value, 0);
        fuzz_that(text != NULL);
        fuzz_that(json_parse(&again, text, strlen(text), "again", &err) == DRR_OK);
        free(text);
        json_object_foreach(lines, path, line)
        {
            const int at = toml_line(lines, path);
            fuzz_that(at >= 1 && (size_t)at <= last);
        }
    } else {
        fuzz_refused(status, &err, "suite.toml:");
        fuzz_that(!value && !lines);
    }
    json_decref(value);
    json_decref(lines);
    json_decref(again);
    files_clear();
    return 0;
}
