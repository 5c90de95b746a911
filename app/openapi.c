/* openapi.c: all this for machines. */
#include "app/app.h"
#include "text/embed.h"

EMBED(openapi, "page/openapi.json");

static struct page description = {"openapi.json", "application/json", openapi, openapi_end, ""};

void openapi_start(void)
{
    etag_make(description.etag, description.from, (size_t)(description.end - description.from));
}

void get_openapi(struct req *r)
{
    respond_page(r, &description);
}
