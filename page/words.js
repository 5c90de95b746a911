/* words.js: what the page says, in two languages. index.html holds its own English. */

/* Portuguese for what index.html says in English. */
export const PAGE_PT = {
  "page-title": "Forno · o loop que está atendendo você, ao vivo",
  "skip-link": "Ir para os controles", settings: "Preferências", language: "Idioma", theme: "Escuro ou claro",
  "tour-start": "Fazer o tour", "tour-skip": "Pular",
  title: "O loop que está atendendo você.",
  lead: "Uma só thread. Ela nunca fica parada esperando pizza, consulta ou chamada: dorme até algo ficar pronto. E não é simulação: é o servidor que mandou esta página.",
  "n-answers": "respostas/s", "n-laps": "voltas do loop/s", "n-asleep": "dormindo", "n-longest": "volta mais longa", "n-stalls": "travadas",
  stage: "O palco", clients: "Clientes", you: "você, esta página: em cinza, fora da conta", kernel: "Kernel",
  interest: "Lista de interesse", connections: "conexões", calls: "chamadas", ready: "Lista de prontos",
  "fd-listener": "acorda quando alguém se conecta: accept4()", "fd-connection": "acorda quando chegam bytes, ou quando cabem mais: recv(), send()",
  "fd-timer": "acorda quando vence o próximo prazo", "fd-event": "acorda quando o worker terminou alguma coisa",
  "fd-lane": "acorda quando o banco de dados responde", lanes: "conexões do banco",
  "fd-courier": "acorda quando o serviço externo responde", "fd-signal": "acorda com Ctrl-C ou SIGTERM",
  "one-thread": "Uma thread, um passo por vez",
  db: "Banco de dados", queue: "fila", worker: "worker",
  oven: "Forno", baking: "assando", timers: "timers",
  upstream: "Chamadas externas", out: "ativas", "in-line": "na fila",
  news: "O que acabou de acontecer", controls: "Controles", curl: "O mesmo com curl", copy: "Copiar",
  timeline: "Linha do tempo", pause: "Pausar", replay: "Replay lento", slowness: "Quão lento", "lap-back": "Uma volta para trás", "lap-on": "Uma volta para a frente",
  "zoom-out": "Afastar", "zoom-in": "Aproximar", span: "Largura da linha do tempo", detail: "Uma requisição em palavras",
  "timeline-keys": "Linha do tempo das requisições. Setas para cima e para baixo escolhem uma requisição, para os lados movem, mais e menos dão zoom, espaço pausa.",
  "timeline-note": "Pause e arraste para mover; Ctrl + roda do mouse para o zoom; clique numa requisição para lê-la em palavras. O replay lento estica o trabalho e encurta o sono: as voltas de verdade duram microssegundos.",
  honest: "Tudo aqui vem de GET /loop/events e pode ser conferido em /metrics: passe o mouse sobre um número para ver de que campo ele vem. A ordem e as esperas são reais; ao vivo, as fichas andam mais devagar que as requisições que representam, senão você nem as veria. Até esta página dá trabalho: enquanto algo acontece, ela acorda o loop dez vezes por segundo; em repouso, uma.",
  self: "roxo: este servidor, chamando a si mesmo",
  "of-answers": "answers, a soma de um segundo (sem as respostas a esta página) · forno_requests_total",
  "of-laps": "laps, a soma de um segundo · forno_lap_seconds_count",
  "of-asleep": "slept_us / (slept_us + worked_us) em um segundo · forno_asleep_seconds_total",
  "of-longest": "longest_lap_us, o maior de dez segundos · forno_lap_seconds",
  "of-stalls": "stalls, a soma desde que esta página foi aberta · forno_stalls_total",
  "of-ready": "woke: quantos descritores esta volta encontrou prontos · forno_ready_events_total",
  "of-baking": "baking: pedidos no forno · forno_orders_baking",
  "of-sample": "requests_seen, requests_shown, skipped: a soma de um segundo",
};

const WORDS = {
  en: {
    connecting: "connecting…", live: "live", lost: "no connection: trying again", bye: "the server is leaving; waiting for its return", closed: "the lab is closed here, and /loop with it",
    asleep: "asleep", unknown: "no word from it", worked: (t) => `ran ${t}`, running: "running", stalledIn: (t) => `stood still ${t}`,
    silent: (t) => `No news for ${t}: the loop, or something between it and us.`, noNews: (t) => `no news for ${t}`,
    spins: (n) => `The loop spins: ${n} laps a second, and hardly anything done. Something is ready, and nobody takes it.`,
    stall: (t, fn) => `The loop stood still for ${t}${fn ? `, in ${fn}` : ""}. Nobody was served.`,
    pausedAt: (t) => `paused at ${t}`, replaying: "slow replay", idle: "idle", busy: "busy",
    sample: (seen, shown, skipped) => seen === shown && !skipped ? "Every request is recorded in full." : `A sample: ${shown} of ${seen} requests a second${skipped ? `, less ${skipped} records for which there was no room` : ", each in full"}; the numbers count all.`,
    passed: (a, an, b, bn) => `Order ${a} (${pizzas(an)}) left before order ${b} (${pizzas(bn)})`, left: (a, n) => `Order ${a}${n ? ` (${pizzas(n)})` : ""} left the oven`,
    in: (a, n) => `Order ${a} (${pizzas(n)}) went into the oven`, taken: (a) => `Order ${a} was taken back`, pizzas: (n) => `${n} ${n === 1 ? "pizza" : "pizzas"}`,
    discarded: (r) => `Request ${r}: the client had left, the answer was discarded`, restarted: "A fresh server: its clock begins again",
    more: (n) => `+ ${n} more`, replay: "Slow replay", resume: "Live", pause: "Pause", stop: "Stop", none: "No request yet. Order a pizza above.",
    kinds: { run: "running", net: "network", queue: "queue", db: "database", oven: "oven, timer", upstream: "external call", stall: "stalled", asleep: "asleep" },
    loop: "the loop",
    pick: "Click a request in the timeline, or a token on the stage, and read here what happened to it: each wait, and each step by the name of its function, to be found in the source.",
    asked: (kind) => `${kind ? `No request with this in it yet: ${WORDS.en.kinds[kind]}` : "No request yet"}. The next one will be told here.`,
    parts: {
      clients: "A square for each connection. One that says nothing costs a struct and no thread. What it says are bytes, in pieces of any size; the loop reads them when they are here, and never waits for more.",
      kernel: "The interest list is what the loop has asked the kernel to watch, by epoll_ctl. The ready list is what epoll_wait has brought back in this lap. Many are of interest, few are ready, and only those few cost anything.",
      loop: "The whole server is this one thread. It takes who is ready, runs one step for each, and sleeps again in epoll_wait. A step never waits: it says what for, names the step that follows, and returns.",
      db: "SQLite can only be waited for in place. So a thread of its own, the worker, does the waiting; who comes meanwhile stands in the queue. When something is done, an eventfd wakes the loop.",
      lanes: "PostgreSQL is reached by sockets, the lanes, and a socket can be waited for as a client can: in the same epoll_wait, without a thread.",
      oven: "What bakes costs neither a thread nor a descriptor: only a time in a heap. One timerfd is set to the one that is due first, and wakes the loop then.",
      upstream: "Calls to another service. Each is one more socket in the interest list: twenty of them are waited for at the same time, as twenty clients are.",
    },
    request: (n) => `request ${n}`, sum: (all, run, wait) => `${all} in all: ${run} running, ${wait} waiting`, alive: "still on its way", sawNoStart: "It began before you came; what came before is not known.",
    s: {
      bytes: (n, c) => `${n} bytes arrived on connection ${c}`, head: (h) => `the head is complete: ${h}`, step: (f, t) => `${f}() ran ${t}`, wait: (k) => `now it waits for ${k}; the loop turns to others`,
      woken: (k, t) => `${k}: waited ${t}`, queued: (t) => `, ${t} of it in the queue`, answer: (s) => `answered ${s}`, flushed: (n) => `${n} bytes left for the client`,
      calls: (n, least, most) => `${n} ${n === 1 ? "call" : "calls"} out to the courier, which is this very server${least ? `: answered after ${least === most ? most : `${least} to ${most}`}` : ""}`,
      discarded: "answer discarded: the client had gone", bake: (o, w, t) => `order ${o}, ${w}, is in the oven for ${t}. It bakes without the request`, lost: "the rest was not recorded",
    },
    courierSelf: "the courier: this very server", courierOther: "the courier: another server", out: (n) => `${n} out`, callsRow: (n) => `↳ ${n} ${n === "1" ? "call" : "calls"}`, callsSelf: "served right here",
    lanes: "lanes", worker: "worker", ownSocket: "a socket each", lane: (name) => name,
    laneState: { idle: "idle", sending: "sending", waiting: "waiting for the Sync", connecting: "connecting", "backing off": "backing off" },
    waits: { db: "the database", oven: "the oven", timer: "a timer", upstream: "the external service" },
    zoomTo: "Show in the timeline", replayIt: "Replay slowly", grep: "Read the source:", read: "Read in the guide:",
    copied: "Copied.", copyNot: "Copy it by hand: the browser does not let this page.",
    labClosed: "The lab is closed on this server (404): it is open on a loopback address, or with --lab.",
    opening: "Opening accounts at the bank…", failed: (s, d) => `${s}: ${d}`,
    done: (what, t) => `${what}: answered after ${t}.`, ordered: (o, n) => `Order ${o} (${pizzas(n)}) is placed and paid. It is in the oven; the request is long over.`,
    hundred: (n, t) => `${n} orders placed and paid within ${t}. Your browser opens six connections at most, and this page keeps one: they came five at a time. curl would not wait.`,
    waterfall: (n, total, sum) => `${n} calls of ${sum} altogether took ${total}.`,
    ctl: {
      one: ["Order 1 pizza", (t) => `${t} in the oven`], ten: ["Order 10 pizzas", (t) => `${t} in the oven`], hundred: ["100 orders", () => "at once"], slow: ["A slow query", (t) => `${t} in the database`],
      together: ["20 calls together", (t) => `${t} each`], sequence: ["20 calls in turn", (t) => `${t} each`], block: ["Block the loop", (t) => `${t}, and everybody waits`],
    },
    step: (n, of) => `Step ${n} of ${of}`, next: "Next", finish: "Done",
    tour: [
      ["One thread, asleep", "In the middle is the whole server: one thread, turning in one loop. Most of the time it sleeps in epoll_wait, and that costs nothing. The kernel keeps the list of what could wake it: a connection, a timer, a finished query."],
      ["Order a pizza", "Bytes arrive, the kernel puts the connection on the ready list, and the loop runs one step: post_order. Then the request waits for the database, and the loop is free again. Watch the token.", "Order 1 pizza"],
      ["Ten before one", "Ten pizzas bake longer than one. Order ten, then one: the loop takes the second order while the first bakes, and the small one leaves first. Nobody waits in line.", "Order ten, then one"],
      ["Twenty calls at once", "Each of these calls takes 300 ms. In turn they would need six seconds; together they wait side by side, a third of a second. The courier that answers is this very server: what goes out on the right comes back in on the left, twenty clients more, and one thread is both sides. Below, they are the lines beneath one row.", "20 calls together"],
      ["Now break it", "One step that does not let go is enough: the loop stands still for a second, and so does everybody, you too. That is why a step never waits. Then pause, and replay it slowly: every name you see is a function in the source.", "Block the loop"],
    ],
  },
  pt: {
    connecting: "conectando…", live: "ao vivo", lost: "sem conexão: tentando de novo", bye: "o servidor está saindo; esperando a volta", closed: "o laboratório está fechado aqui, e o /loop com ele",
    asleep: "dormindo", unknown: "sem notícias", worked: (t) => `rodou ${t}`, running: "rodando", stalledIn: (t) => `ficou parado ${t}`,
    silent: (t) => `Sem notícias há ${t}: é o loop, ou algo entre ele e nós.`, noNews: (t) => `sem notícias há ${t}`,
    spins: (n) => `O loop gira em falso: ${n} voltas por segundo, e quase nada feito. Algo está pronto, e ninguém pega.`,
    stall: (t, fn) => `O loop ficou parado por ${t}${fn ? `, em ${fn}` : ""}. Ninguém foi atendido.`,
    pausedAt: (t) => `pausado em ${t}`, replaying: "replay lento", idle: "livre", busy: "ocupado",
    sample: (seen, shown, skipped) => seen === shown && !skipped ? "Toda requisição é registrada por inteiro." : `Uma amostra: ${shown} de ${seen} requisições por segundo${skipped ? `, menos ${skipped} registros que não couberam` : ", cada uma por inteiro"}; os números contam todas.`,
    passed: (a, an, b, bn) => `O pedido ${a} (${pizzas(an)}) saiu antes do pedido ${b} (${pizzas(bn)})`, left: (a, n) => `O pedido ${a}${n ? ` (${pizzas(n)})` : ""} saiu do forno`,
    in: (a, n) => `O pedido ${a} (${pizzas(n)}) entrou no forno`, taken: (a) => `O pedido ${a} foi cancelado`, pizzas: (n) => `${n} ${n === 1 ? "pizza" : "pizzas"}`,
    discarded: (r) => `Requisição ${r}: o cliente já tinha ido embora, a resposta foi descartada`, restarted: "Servidor novo: o relógio dele recomeça do zero",
    more: (n) => `+ ${n}`, replay: "Replay lento", resume: "Ao vivo", pause: "Pausar", stop: "Parar", none: "Nenhuma requisição ainda. Peça uma pizza ali em cima.",
    kinds: { run: "rodando", net: "rede", queue: "fila", db: "banco de dados", oven: "forno, timer", upstream: "chamada externa", stall: "travado", asleep: "dormindo" },
    loop: "o loop",
    pick: "Clique numa requisição na linha do tempo, ou numa ficha no palco, e leia aqui o que aconteceu com ela: cada espera e cada passo, com o nome da função, que está no código-fonte.",
    asked: (kind) => `Ainda não veio nenhuma requisição${kind ? ` com isto: ${WORDS.pt.kinds[kind]}` : ""}. A próxima vai ser contada aqui.`,
    parts: {
      clients: "Um quadradinho para cada conexão. A que fica calada custa uma struct e nenhuma thread. O que ela diz são bytes, em pedaços de qualquer tamanho; o loop lê os que já chegaram e nunca fica esperando o resto.",
      kernel: "A lista de interesse é o que o loop pediu para o kernel vigiar, com epoll_ctl. A lista de prontos é o que epoll_wait trouxe nesta volta. Muitos interessam, poucos estão prontos, e só esses poucos custam alguma coisa.",
      loop: "O servidor inteiro é esta única thread. Ela pega quem está pronto, roda um passo para cada um e volta a dormir em epoll_wait. Um passo nunca espera: diz o que falta, deixa o nome do passo seguinte e retorna.",
      db: "O SQLite só sabe esperar parado no lugar. Por isso quem espera é outra thread, o worker; quem chega enquanto isso fica na fila. Quando algo termina, um eventfd acorda o loop.",
      lanes: "Com o PostgreSQL se fala por sockets, as conexões do banco, e um socket se espera como se espera um cliente: no mesmo epoll_wait, sem thread nenhuma.",
      oven: "O que está assando não custa thread nem descritor: só uma hora marcada num heap. Um único timerfd é acertado para a primeira que vence, e nessa hora acorda o loop.",
      upstream: "Chamadas a outro serviço. Cada uma é mais um socket na lista de interesse: vinte são esperadas ao mesmo tempo, como vinte clientes.",
    },
    request: (n) => `requisição ${n}`, sum: (all, run, wait) => `${all} ao todo: ${run} rodando, ${wait} esperando`, alive: "ainda a caminho", sawNoStart: "Começou antes de você chegar; o início não foi registrado.",
    s: {
      bytes: (n, c) => `chegaram ${n} bytes pela conexão ${c}`, head: (h) => `o cabeçalho está completo: ${h}`, step: (f, t) => `${f}() rodou ${t}`, wait: (k) => `agora espera ${k}; o loop vai cuidar de outros`,
      woken: (k, t) => `${k}: esperou ${t}`, queued: (t) => `, dos quais ${t} na fila`, answer: (s) => `respondida com ${s}`, flushed: (n) => `${n} bytes saíram para o cliente`,
      calls: (n, least, most) => `${n} ${n === 1 ? "chamada" : "chamadas"} ao courier, que é este mesmo servidor${least ? `: resposta em ${least === most ? most : `${least} a ${most}`}` : ""}`,
      discarded: "resposta descartada: o cliente já tinha ido embora", bake: (o, w, t) => `o pedido ${o}, ${w}, fica no forno por ${t}. Assa sem a requisição`, lost: "o resto não foi registrado",
    },
    courierSelf: "o courier: este mesmo servidor", courierOther: "o courier: outro servidor", out: (n) => `${n} ${n === 1 ? "ativa" : "ativas"}`, callsRow: (n) => `↳ ${n} ${n === "1" ? "chamada" : "chamadas"}`, callsSelf: "atendidas aqui mesmo",
    lanes: "conexões", worker: "worker", ownSocket: "um socket cada", lane: (name) => name.replace("reads", "leituras").replace("writes", "escritas").replace("news", "novidades").replace("slow", "lentas"),
    laneState: { idle: "livre", sending: "enviando", waiting: "esperando o Sync", connecting: "conectando", "backing off": "dando um tempo" },
    waits: { db: "o banco de dados", oven: "o forno", timer: "um timer", upstream: "o serviço externo" },
    zoomTo: "Ver na linha do tempo", replayIt: "Replay lento", grep: "Leia o código:", read: "Leia no guia:",
    copied: "Copiado.", copyNot: "Copie à mão: o navegador não deixa esta página copiar.",
    labClosed: "O laboratório está fechado neste servidor (404): ele abre num endereço de loopback, ou com --lab.",
    opening: "Abrindo contas no banco…", failed: (s, d) => `${s}: ${d}`,
    done: (what, t) => `${what}: resposta em ${t}.`, ordered: (o, n) => `O pedido ${o} (${pizzas(n)}) está feito e pago. A pizza está no forno; a requisição acabou faz tempo.`,
    hundred: (n, t) => `${n} pedidos feitos e pagos em ${t}. O navegador abre no máximo seis conexões, e esta página ocupa uma: eles foram de cinco em cinco. O curl não esperaria.`,
    waterfall: (n, total, sum) => `${n} chamadas, que somam ${sum}, levaram ${total}.`,
    ctl: {
      one: ["Pedir 1 pizza", (t) => `${t} no forno`], ten: ["Pedir 10 pizzas", (t) => `${t} no forno`], hundred: ["100 pedidos", () => "de uma vez"], slow: ["Consulta lenta", (t) => `${t} no banco`],
      together: ["20 chamadas", (t) => `juntas, ${t} cada`], sequence: ["20 em série", (t) => `${t} cada, uma a uma`], block: ["Travar o loop", (t) => `${t}, e todos esperam`],
    },
    step: (n, of) => `Passo ${n} de ${of}`, next: "Próximo", finish: "Pronto",
    tour: [
      ["Uma thread, dormindo", "No centro está o servidor inteiro: uma thread, girando num loop. Quase o tempo todo ela dorme em epoll_wait, e isso não custa nada. O kernel guarda a lista do que pode acordá-la: uma conexão, um timer, uma consulta que terminou."],
      ["Peça uma pizza", "Chegam bytes, o kernel põe a conexão na lista de prontos, e o loop roda um passo: post_order. Depois a requisição espera o banco de dados, e o loop já está livre de novo. Siga a ficha.", "Pedir 1 pizza"],
      ["Dez antes de uma", "Dez pizzas demoram mais do que uma. Peça dez e depois uma: o loop aceita o segundo pedido enquanto o primeiro assa, e o pequeno sai antes. Ninguém fica na fila.", "Pedir dez, depois uma"],
      ["Vinte chamadas de uma vez", "Cada chamada leva 300 ms. Em série seriam seis segundos; juntas, esperam lado a lado, um terço de segundo. O courier que responde é este mesmo servidor: o que sai pela direita volta a entrar pela esquerda, vinte clientes a mais, e uma só thread faz os dois lados. Na linha do tempo, são os traços embaixo de uma só linha.", "20 chamadas juntas"],
      ["Agora quebre", "Basta um passo que não larga a thread: o loop para por um segundo, e todo mundo para junto, você também. Por isso um passo nunca espera. Depois pause e veja o replay lento: cada nome que aparece é uma função do código.", "Travar o loop"],
    ],
  },
};

/* What the browser keeps for us from visit to visit, if it may: where it may not, even to look at localStorage is an error. */
export function recall(name) {
  try { return localStorage.getItem(`forno.${name}`); } catch { return null; }
}

export function keep(name, value) {
  try { localStorage.setItem(`forno.${name}`, value); } catch { /* then only for this visit */ }
}

/* The language spoken now, and its words: whoever imports these sees them change. */
export let lang = recall("lang") ?? (navigator.language.toLowerCase().startsWith("pt") ? "pt" : "en");
export let T = WORDS[lang];
const pizzas = (n) => T.pizzas(n);

/* A chapter of the guide, where it lies in the source. */
export const chapter = (name) => `docs/guide/${lang === "pt" ? "pt-BR" : "en"}/${name}.md`;

export function choose(language) {
  lang = language;
  T = WORDS[lang];
}
