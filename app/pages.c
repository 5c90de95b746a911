/* pages.c: the live page, inside the binary: no file to lose, no path to traverse. */
#include "app/app.h"
#include "text/embed.h"

#include <string.h>

#define HTML "text/html; charset=utf-8"
#define JS "text/javascript; charset=utf-8"
#define CSS "text/css; charset=utf-8"

/* Every file of the page: a name for the linker, its name here and in page/, its type. index.html asks for the rest beforehand. */
#define FILES(FILE)                            \
    FILE(page_index, "index.html", HTML)       \
    FILE(page_style, "style.css", CSS)         \
    FILE(page_address, "address.js", JS)       \
    FILE(page_connection, "connection.js", JS) \
    FILE(page_controls, "controls.js", JS)     \
    FILE(page_customer, "customer.js", JS)     \
    FILE(page_detail, "detail.js", JS)         \
    FILE(page_doing, "doing.js", JS)           \
    FILE(page_main, "main.js", JS)             \
    FILE(page_news, "news.js", JS)             \
    FILE(page_playhead, "playhead.js", JS)     \
    FILE(page_recording, "recording.js", JS)   \
    FILE(page_scenery, "scenery.js", JS)       \
    FILE(page_stage, "stage.js", JS)           \
    FILE(page_stream, "stream.js", JS)         \
    FILE(page_timeline, "timeline.js", JS)     \
    FILE(page_tokens, "tokens.js", JS)         \
    FILE(page_tools, "tools.js", JS)           \
    FILE(page_tour, "tour.js", JS)             \
    FILE(page_words, "words.js", JS)

#define EMBED_FILE(symbol, name, type) EMBED(symbol, "page/" name);
FILES(EMBED_FILE)

#define ROW(symbol, name, type) {name, type, symbol, symbol##_end, ""},
static struct page pages[] = {FILES(ROW)};
#define PAGES (sizeof pages / sizeof *pages)

bool page_of_json(struct page *page, cJSON *json)
{
    size_t len;
    const char *text = json_line(json, &len);

    if (!text) return false;
    page->from = text;
    page->end = text + len;
    etag_make(page->etag, text, len);
    return true;
}

void respond_unchanging(struct req *r, const struct page *page)
{
    respond_field(r, "ETag", "%s", page->etag);
    respond_field(r, "Cache-Control", "no-cache");
    if (etag_matches(r, page->etag)) respond(r, 304, NULL, NULL, 0);
    else respond(r, 200, page->type, page->from, (size_t)(page->end - page->from));
}

void respond_page(struct req *r, const struct page *page)
{
    respond_field(r, "Content-Security-Policy",
                  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
                  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    respond_field(r, "X-Content-Type-Options", "nosniff");
    respond_field(r, "Referrer-Policy", "no-referrer");
    respond_unchanging(r, page);
}

void get_page_file(struct req *r)
{
    const char *name = r->param[0] ? r->param : "index.html"; /* GET / names none */

    for (struct page *page = pages; page < pages + PAGES; page++) {
        if (strcmp(page->name, name) != 0) continue;
        if (!page->etag[0]) etag_make(page->etag, page->from, (size_t)(page->end - page->from));
        respond_page(r, page);
        return;
    }
    respond_problem(r, PROBLEM_NOT_FOUND, "The page has no file of that name.");
}
