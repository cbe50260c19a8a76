"""The carriers' management side: who signed a request, what is answered to a webhook."""
