/* pages.c: the live page and the API description, inside the binary: no file to lose, no path to traverse. */
#include "app/app.h"
#include "text/embed.h"

#include <string.h>

EMBED(page_html, "page/index.html");
EMBED(page_js, "page/page.js");
EMBED(page_stream, "page/stream.js");
EMBED(page_words, "page/words.js");
EMBED(page_css, "page/page.css");
EMBED(page_openapi, "page/openapi.json");

static struct page {
    const char *route, *from, *end, *type;
    char etag[ETAG_SIZE];
} pages[] = {
    {"/", page_html, page_html_end, "text/html; charset=utf-8", ""},
    {"/page.js", page_js, page_js_end, "text/javascript; charset=utf-8", ""},
    {"/stream.js", page_stream, page_stream_end, "text/javascript; charset=utf-8", ""},
    {"/words.js", page_words, page_words_end, "text/javascript; charset=utf-8", ""},
    {"/page.css", page_css, page_css_end, "text/css; charset=utf-8", ""},
    {"/openapi.json", page_openapi, page_openapi_end, "application/json", ""},
};

void pages_start(void)
{
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
        etag_make(pages[i].etag, pages[i].from, (size_t)(pages[i].end - pages[i].from));
}

void get_page_file(struct req *r)
{
    const struct page *page = pages;

    while (strcmp(page->route, r->route) != 0) page++; /* every route that leads here is in the table */
    respond_field(r, "ETag", "%s", page->etag);
    respond_field(r, "Cache-Control", "no-cache");
    respond_field(r, "Content-Security-Policy",
                  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
                  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    respond_field(r, "X-Content-Type-Options", "nosniff");
    respond_field(r, "Referrer-Policy", "no-referrer");
    if (etag_matches(r, page->etag)) respond(r, 304, NULL, NULL, 0);
    else respond(r, 200, page->type, page->from, (size_t)(page->end - page->from));
}
