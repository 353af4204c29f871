/*
 * JSON to standard output, indented by two.  A value is written into what is open: by its
 * name in an object, without (NULL) in an array.
 */
#ifndef PB_TOOLS_JSON_H
#define PB_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>

void json_object(const char *name);
void json_array(const char *name);
/* Ends the innermost object or array; the outermost ends with a new line. */
void json_end(void);
void json_number(const char *name, uint64_t n);
void json_signed(const char *name, int64_t n);
/* With three digits after the point; what is no number is written as null. */
void json_real(const char *name, double x);
void json_bool(const char *name, bool b);
void json_string(const char *name, const char *s);

#endif
