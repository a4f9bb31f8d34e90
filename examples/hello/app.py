from typing import Never

from zerver import App, CtxView, Decision, Done, Need, Retry, Slot, http, step

app = App()


class Motto(Slot[str]):
    """What another service says. The answer does without, if it must."""


@app.get("/hello/{name}")
def hello(ctx: CtxView) -> Decision:
    return Done.json({"hello": ctx.param("name")})


@step
def ask(ctx: CtxView[Never, Motto]) -> Decision:
    url = "http://127.0.0.1:9009/motto.txt"
    return Need([http.get(url, into=Motto, timeout=0.5, retry=Retry(2), required=False)], then=answer)


def answer(ctx: CtxView[Motto]) -> Decision:
    return Done.json({"motto": ctx.optional(Motto), "problems": [error.what for error in ctx.errors]})


app.get("/motto", ask)
