// handler.cpp: the same handler as a coroutine of C++20, so that the compiler can be asked what it makes of it:
// g++ -std=c++20 -c -fdump-tree-original=tree.log -o /dev/null docs/guide/await/handler.cpp
#include <coroutine>

struct order {
    struct promise_type {
        order get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};

struct takes {
    int ms;
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> whoever);
    void await_resume() {}
};

void pays(int price);
void eats(int pizzas);

order post_order(int pizzas)
{
    int price = 35 * pizzas;

    co_await takes{10}; // the database
    pays(price);
    co_await takes{300 * pizzas}; // the oven
    eats(pizzas);
}
