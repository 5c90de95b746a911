/* bank.c: accounts, their ledgers, transfers. I see my balance, never my colleague's, and I cannot change it uncontrolledly. */
#include "app/app.h"
#include "app/start.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

/* ---- POST /accounts ----------------------------------------------------------------------------------------------------------------- */

struct opening {
    struct db_account account;
    char token[TOKEN_SIZE];
};

/* It has 256 bits of chance, so its hash needs no salt and need not be slow. */
void fresh_token(char text[TOKEN_SIZE], struct db_token *hashed)
{
    unsigned char random[32];

    randombytes_buf(random, sizeof random);
    sodium_bin2base64(text, TOKEN_SIZE, random, sizeof random, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    crypto_generichash(hashed->hash, sizeof hashed->hash, (const unsigned char *)text, strlen(text), NULL, 0);
}

static void account_opened(struct req *r);

void post_account(struct req *r)
{
    struct opening *o = req_alloc(r, sizeof *o);

    if (!o) return;
    const struct json_member members[] = {
        {.name = "name", .required = true, .text = o->account.name, .text_size = sizeof o->account.name, .min = 1, .max = 80},
    };
    if (!json_read(r, members, 1)) return;
    fresh_token(o->token, &o->account.token); /* shown once; what is kept is its hash */
    o->account.balance_cents = app_options->opening_credit_cents;
    db_open_account(&o->account, await(r, account_opened));
}

static cJSON *account_json(const struct db_account *a)
{
    cJSON *json = cJSON_CreateObject();

    json_add_integer(json, "id", a->id);
    cJSON_AddStringToObject(json, "name", a->name);
    json_add_integer(json, "balance_cents", a->balance_cents);
    return json;
}

static void account_opened(struct req *r)
{
    struct opening *o = req_state(r);

    if (db_said_no(r, o->account.job.rc)) return;
    cJSON *json = account_json(&o->account);
    cJSON_AddStringToObject(json, "token", o->token);
    respond_field(r, "Location", "/accounts/%lld", (long long)o->account.id);
    respond_field(r, "Cache-Control", "no-store");
    respond_json(r, 201, json);
}

/* ---- GET /accounts/{id} --------------------------------------------------------------------------------------------------------------- */

static void account_fetched(struct req *r);

void get_account(struct req *r)
{
    struct db_account *a = req_alloc(r, sizeof *a);

    if (!a) return;
    a->id = param_id(r);
    a->token = bearer_token(r);
    db_get_account(a, await(r, account_fetched));
}

static void account_fetched(struct req *r)
{
    struct db_account *a = req_state(r);

    if (db_said_no(r, a->job.rc)) return;
    respond_field(r, "Cache-Control", "no-store");
    respond_json(r, 200, account_json(a));
}

/* ---- GET /accounts/{id}/entries ---------------------------------------------------------------------------------------------------------- */

static void entries_fetched(struct req *r);

void get_entries(struct req *r)
{
    struct db_entries *e = req_alloc(r, sizeof *e);
    int64_t limit;

    if (!e) return;
    if (!query_number(r, "limit", 20, 1, 100, &limit)) return;
    if (!query_number(r, "before", 0, 1, INT64_MAX, &e->before)) return;
    e->limit = (size_t)limit;
    e->rows = req_alloc(r, e->limit * sizeof *e->rows);
    if (!e->rows) return;
    e->account_id = param_id(r);
    e->token = bearer_token(r);
    db_list_entries(e, await(r, entries_fetched));
}

static cJSON *entry_json(const struct db_entry *e)
{
    static const char *const kinds[] = {
        [DB_OPENING] = "opening", [DB_ORDER] = "order", [DB_REFUND] = "refund", [DB_TRANSFER] = "transfer"};
    cJSON *json = cJSON_CreateObject();
    char at[INSTANT_SIZE];

    json_add_integer(json, "id", e->id);
    cJSON_AddStringToObject(json, "kind", kinds[e->kind]);
    json_add_integer(json, "amount_cents", e->amount_cents);
    cJSON_AddStringToObject(json, "at", instant(at, e->at_ms));
    if (e->order_id) json_add_integer(json, "order_id", e->order_id);
    if (e->transfer_id) json_add_integer(json, "transfer_id", e->transfer_id);
    if (e->transfer_id) json_add_integer(json, e->amount_cents < 0 ? "to" : "from", e->peer_id);
    if (e->note[0]) cJSON_AddStringToObject(json, "note", e->note);
    return json;
}

static void entries_fetched(struct req *r)
{
    struct db_entries *e = req_state(r);
    char path[64];

    if (db_said_no(r, e->job.rc)) return;
    cJSON *json = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(json, "entries");
    for (size_t i = 0; i < e->count; i++) json_append(list, entry_json(&e->rows[i]));
    snprintf(path, sizeof path, "/accounts/%lld/entries", (long long)e->account_id);
    json_next(r, json, path, "", (int64_t)e->limit, e->more, e->count ? e->rows[e->count - 1].id : 0);
    respond_field(r, "Cache-Control", "no-store");
    respond_json(r, 200, json);
}

/* ---- POST /transfers ------------------------------------------------------------------------------------------------------------------------ */

static void transfer_made(struct req *r);

void post_transfer(struct req *r)
{
    struct db_transfer *t = req_alloc(r, sizeof *t);

    if (!t) return;
    const struct json_member members[] = {
        {.name = "to", .required = true, .number = &t->to, .min = 1, .max = DB_AMOUNT_MAX},
        {.name = "amount_cents", .required = true, .number = &t->amount_cents, .min = 1, .max = DB_AMOUNT_MAX},
        {.name = "note", .text = t->note, .text_size = sizeof t->note, .max = 140},
    };
    if (!idempotency_key(r, true, &t->key)) return;
    if (!json_read(r, members, 3)) return;
    t->token = bearer_token(r);
    db_transfer(t, await(r, transfer_made));
}

static void transfer_made(struct req *r)
{
    struct db_transfer *t = req_state(r);

    if (t->replayed) respond_field(r, "Idempotent-Replayed", "true");
    if (t->job.rc == DB_NOT_FOUND) {
        respond_problem(r, PROBLEM_NO_RECEIVER, NULL);
        return;
    }
    if (db_said_no(r, t->job.rc)) return;
    cJSON *json = cJSON_CreateObject();
    json_add_integer(json, "id", t->id);
    json_add_integer(json, "to", t->to);
    json_add_integer(json, "amount_cents", t->amount_cents);
    json_add_integer(json, "balance_cents", t->balance_cents);
    respond_field(r, "Cache-Control", "no-store");
    respond_json(r, 201, json);
}
