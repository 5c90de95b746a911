/* libpq.h: PostgreSQL's own library, loaded when a URL asks for it. Who keeps his ledger in a file need not have it, and pays nothing for it:
 * linked, it would bring thirty libraries into every start. */
#ifndef FORNO_LIBPQ_H
#define FORNO_LIBPQ_H

#include <libpq-fe.h>
#include <stdbool.h>

/* clang-format off */
#define LIBPQ(F) \
    F(PQconninfoParse) F(PQconninfoFree) F(PQfreemem) F(PQconnectStartParams) F(PQconnectPoll) F(PQstatus) F(PQerrorMessage) F(PQsocket) \
    F(PQfinish) F(PQbackendPID) F(PQsetNoticeReceiver) F(PQsetnonblocking) F(PQenterPipelineMode) F(PQpipelineSync) F(PQflush) \
    F(PQconsumeInput) F(PQisBusy) F(PQgetResult) F(PQnotifies) F(PQsendQuery) F(PQsendPrepare) F(PQsendDescribePrepared) \
    F(PQsendQueryPrepared) F(PQclear) F(PQresultStatus) F(PQresultErrorField) F(PQntuples) F(PQnfields) F(PQftype) F(PQnparams) \
    F(PQparamtype) F(PQgetvalue) F(PQgetlength) F(PQgetisnull) F(PQconndefaults)
/* clang-format on */

#define F(name) __typeof__(&name) name;
extern struct libpq {
    LIBPQ(F)
} pq;
#undef F

/* Load it. False: it is not there, or too old for pipelines (before 14). */
bool libpq_load(void);

#endif
