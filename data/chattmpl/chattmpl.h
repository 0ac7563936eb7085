// The C interface of libchattmpl.a; lib.rs states the contracts.
#ifndef CHATTMPL_H
#define CHATTMPL_H

#include <stddef.h>
#include <stdint.h>

typedef struct chattmpl chattmpl;

chattmpl *chattmpl_new(const uint8_t *source, size_t len, int64_t now, char **text, size_t *text_len);
int chattmpl_render(const chattmpl *t, const uint8_t *context, size_t len, char **text, size_t *text_len);
void chattmpl_free(chattmpl *t);
void chattmpl_free_text(char *text, size_t len);

#endif
