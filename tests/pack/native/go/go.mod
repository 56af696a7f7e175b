module acme.example/text

go 1.24
