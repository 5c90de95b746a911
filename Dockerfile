# Forno in a container, for machines without epoll or without gcc:
#
#   docker build -t forno . && docker run --rm -p 127.0.0.1:8000:8000 -e FORNO_LAB=1 forno
#
# FORNO_LAB=1 opens the lab to whoever reaches the port; leave it out on a public address. Options are variables: FORNO_BAKE_MS=500.
ARG BASE=debian:12-slim

FROM $BASE AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends make
# What the build needs, before the sources: so that a change of these does not fetch that again.
COPY Makefile ./
COPY app/start.h app/
RUN make need-build
COPY . .
RUN make server && make install DESTDIR=/out PREFIX=/usr

FROM $BASE
RUN apt-get update \
 && apt-get install -y --no-install-recommends libcjson1 libpq5 libsodium23 libsqlite3-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 8000 --home-dir /var/lib/forno --no-create-home forno \
 && install -d -o forno /var/lib/forno
COPY --from=build /out/usr/bin/forno /usr/bin/
COPY LICENSE /usr/share/doc/forno/
USER forno
WORKDIR /var/lib/forno
VOLUME /var/lib/forno
ENV FORNO_HOST=0.0.0.0
EXPOSE 8000
# Is it ready? Asked by bash itself, since there is no curl here. While it leaves, or without its database, it is not.
HEALTHCHECK --interval=10s --timeout=3s --start-period=2s CMD ["bash", "-c", \
  "exec 3<>/dev/tcp/127.0.0.1/${FORNO_PORT:-8000} && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["forno"]
